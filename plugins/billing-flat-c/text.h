// Texts, as strings of the interface: bytes with a length.

#ifndef TEXT_H
#define TEXT_H

#include "billing.h"

/// The characters of a literal.
billing_string_t words(const char *literal);

bool equal(billing_string_t left, billing_string_t right);

/// Byte for byte: below 0, 0 or above 0.
int compare(billing_string_t left, billing_string_t right);

bool starts_with(billing_string_t text, billing_string_t prefix);

/// A new text of these parts.
billing_string_t join(const billing_string_t *parts, size_t count);

#define JOIN(...) join(PARTS(__VA_ARGS__), sizeof(PARTS(__VA_ARGS__)) / sizeof(billing_string_t))
#define PARTS(...) ((const billing_string_t[]){__VA_ARGS__})

#endif
