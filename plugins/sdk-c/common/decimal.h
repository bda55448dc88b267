// Decimal numbers that are not negative: a whole number of 128 bits over a divisor, exact until it is written. What would leave
// that range is refused, never wrapped.

#ifndef DECIMAL_H
#define DECIMAL_H

#include "text.h"

#define LIMBS 4

/// Limbs, the lowest first, over `divisor`, over 10^`places`.
struct number {
    uint32_t limbs[LIMBS];
    uint64_t divisor;
    unsigned places;
};

struct number whole(uint64_t value);

/// Reads what is written like `0.05`; false if it is not, or out of range.
bool read_number(string text, struct number *number);

/// Writes it likewise: all digits if they are 28 at most, else the first 28.
string written(struct number number);

/// False if the product is out of range.
bool multiply(struct number *number, uint64_t factor);

/// Divisors of one number must stay below 2^60, all together.
void divide(struct number *number, uint64_t divisor);

/// Adds a number of as many places; false if the sum is out of range.
bool add(struct number *number, struct number other);

/// Whether it is written like a number, which may have any number of digits.
bool is_decimal(string text);

/// Compares two of those by their values: below 0, 0 or above 0.
int compare_decimals(string left, string right);

#endif
