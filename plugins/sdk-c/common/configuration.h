// The operator's parameters. `policy.h` includes this after it said what a parameter is.

#ifndef CONFIGURATION_H
#define CONFIGURATION_H

/// The value of a parameter; NULL if it is not set.
const string *value_of(const configuration *configuration, const char *name);

/// Refuses parameters that are not among `names`: a misspelt one should not pass unnoticed.
bool allow(const configuration *configuration, const char *const *names, size_t count, string *error);

/// As `allow`, of the names that follow.
#define ALLOW(configuration, error, ...) \
    allow(configuration, (const char *const[]){__VA_ARGS__}, COUNT(((const char *const[]){__VA_ARGS__})), error)

/// The value of a parameter as a whole number from 0 to `most`, or `otherwise` if it is not set.
bool read_whole(const configuration *configuration, const char *name, uint64_t otherwise, uint64_t most, uint64_t *value,
    string *error);

#endif
