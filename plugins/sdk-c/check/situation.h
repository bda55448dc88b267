// What the checks of all kinds are made of.

#ifndef SITUATION_H
#define SITUATION_H

#include "check.h"

/// How many situations are made up. They are the same each time.
#define SITUATIONS 400
#define GIB (UINT64_C(1) << 30)

/// Numbers that look random: SplitMix64.
struct numbers { uint64_t state; };

uint64_t next_number(struct numbers *numbers);

/// From 0 on, below `limit`.
uint64_t below(struct numbers *numbers, uint64_t limit);

/// True once in so many times.
bool chance(struct numbers *numbers, uint64_t of);

/// One of these words.
string one_of(struct numbers *numbers, const char *const *list, size_t count);

/// An id: the prefix and hexadecimal digits.
string made_up_id(struct numbers *numbers, const char *prefix);

/// A digest of answers, to tell whether they are the same: FNV-1a.
struct digest { uint64_t state; };

struct digest new_digest(void);
void digest_bytes(struct digest *digest, const void *bytes, size_t length);
void digest_string(struct digest *digest, string text);
void digest_option(struct digest *digest, ashlar_option_string_t text);

/// The digest of what a policy with these parameters says in that situation, which is checked on the way. Each kind has its own.
uint64_t check_situation(const configuration *parameters, uint64_t seed);

/// Whether the policy takes these parameters. Each kind has its own.
bool check_configuration(configuration *parameters, string *error);

/// Whether a text has from 1 to `most` characters, none of them a control character.
bool is_sentence(string text, size_t most);

/// Checked after all situations: what must hold of all of them together. Each kind has its own.
void check_all(void);

#endif
