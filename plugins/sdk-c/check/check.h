// What every policy must keep, checked on made-up situations: for a policy's own tests. They run as a program of this machine, which
// ends with status 1 at the first that fails.

#ifndef CHECK_H
#define CHECK_H

#include "policy.h"

/// The policy takes these parameters, written as `name=value name=value`, and keeps what every policy of its kind must.
void check_policy(const char *parameters);

/// The policy does not take these parameters, and says why.
void check_refusal(const char *parameters);

/// Parameters written like that.
configuration parameters_of(const char *parameters);

/// Ends the tests with these words, formatted as by printf, unless the condition holds.
#define EXPECT(condition, ...) expect((condition), __FILE__, __LINE__, __VA_ARGS__)

__attribute__((format(printf, 4, 5)))
void expect(bool holds, const char *file, int line, const char *format, ...);

/// What printf takes for `%.*s`.
#define SHOWN(text) (int)(text).len, (const char *)(text).ptr

#endif
