// Texts, as strings of the interface: bytes with a length. What a text is made of is never changed, so that texts may share it.

#ifndef TEXT_H
#define TEXT_H

#include "ashlar.h"

typedef ashlar_string_t string;

/// The characters of a literal.
string words(const char *literal);

/// A whole number in digits.
string digits(uint64_t number);

bool equal(string left, string right);

/// Byte for byte: below 0, 0 or above 0.
int compare(string left, string right);

bool starts_with(string text, string prefix);

/// A new text of these parts.
string join(const string *parts, size_t count);

#define JOIN(...) join(PARTS(__VA_ARGS__), COUNT(PARTS(__VA_ARGS__)))
#define PARTS(...) ((const string[]){__VA_ARGS__})
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/// Says why there is no answer, in a sentence for the operator; false, for whoever returns it.
bool fail(string *error, string why);

/// Writes a line for the operator, of level LOG_DEBUG, LOG_INFO, LOG_WARN or LOG_ERROR. In a test it goes nowhere.
void say(ashlar_policy_log_level_t level, string line);

#define LOG_DEBUG ASHLAR_POLICY_LOG_LEVEL_DEBUG
#define LOG_INFO ASHLAR_POLICY_LOG_LEVEL_INFO
#define LOG_WARN ASHLAR_POLICY_LOG_LEVEL_WARN
#define LOG_ERROR ASHLAR_POLICY_LOG_LEVEL_ERROR

#endif
