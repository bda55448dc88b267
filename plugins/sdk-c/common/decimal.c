#include "decimal.h"

#include <string.h>

/// What a price may have.
#define DIGITS 28
/// 2^128 has as many.
#define MOST_DIGITS 39

struct number whole(uint64_t value) {
    return (struct number){{(uint32_t)value, (uint32_t)(value >> 32)}, 1, 0};
}

/// limbs × factor + carry; what does not fit in is returned.
static uint32_t times(uint32_t *limbs, uint32_t factor, uint32_t carry) {
    for (size_t i = 0; i < LIMBS; i++) {
        uint64_t product = (uint64_t)limbs[i] * factor + carry;
        limbs[i] = (uint32_t)product;
        carry = (uint32_t)(product >> 32);
    }
    return carry;
}

/// Divides by ten; returns the remainder.
static uint8_t tenth(uint32_t *limbs) {
    uint64_t rest = 0;
    for (size_t i = LIMBS; i-- > 0;) {
        rest = rest << 32 | limbs[i];
        limbs[i] = (uint32_t)(rest / 10);
        rest %= 10;
    }
    return (uint8_t)rest;
}

/// Divides bit by bit; returns the remainder.
static uint64_t quotient(uint32_t *limbs, uint64_t divisor) {
    uint64_t rest = 0;
    for (size_t i = LIMBS; i-- > 0;) {
        uint32_t limb = limbs[i], result = 0;
        for (int bit = 31; bit >= 0; bit--) {
            rest = rest << 1 | (limb >> bit & 1);
            result <<= 1;
            if (rest >= divisor) {
                rest -= divisor;
                result |= 1;
            }
        }
        limbs[i] = result;
    }
    return rest;
}

static bool is_zero(const uint32_t *limbs) {
    for (size_t i = 0; i < LIMBS; i++)
        if (limbs[i] != 0)
            return false;
    return true;
}

/// Adds limbs; false if the sum is out of range.
static bool add_limbs(uint32_t *limbs, const uint32_t *others) {
    uint64_t carry = 0;
    for (size_t i = 0; i < LIMBS; i++) {
        carry += (uint64_t)limbs[i] + others[i];
        limbs[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return carry == 0;
}

static bool times_long(uint32_t *limbs, uint64_t factor) {
    uint32_t high[LIMBS];
    memcpy(high, limbs, sizeof high);
    if (times(limbs, (uint32_t)factor, 0) != 0 || times(high, (uint32_t)(factor >> 32), 0) != 0)
        return false;
    if (high[LIMBS - 1] != 0)
        return false;
    const uint32_t shifted[LIMBS] = {0, high[0], high[1], high[2]};
    return add_limbs(limbs, shifted);
}

static uint64_t common_divisor(uint64_t left, uint64_t right) {
    while (right != 0) {
        uint64_t rest = left % right;
        left = right;
        right = rest;
    }
    return left;
}

bool multiply(struct number *number, uint64_t factor) {
    uint64_t common = common_divisor(number->divisor, factor);
    number->divisor /= common;
    return times_long(number->limbs, factor / common);
}

void divide(struct number *number, uint64_t divisor) {
    number->divisor *= divisor;
}

bool add(struct number *number, struct number other) {
    uint64_t divisor = number->divisor;
    number->divisor *= other.divisor;
    return times_long(number->limbs, other.divisor) && times_long(other.limbs, divisor)
        && add_limbs(number->limbs, other.limbs);
}

/// The digits before and after the point, without zeros that mean nothing.
struct parts {
    string before, after;
};

static bool split(string text, struct parts *parts) {
    size_t point = text.len, digits = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] >= '0' && text.ptr[i] <= '9')
            digits++;
        else if (text.ptr[i] == '.' && point == text.len)
            point = i;
        else
            return false;
    }
    if (digits == 0)
        return false;
    size_t first = 0, end = text.len;
    while (first < point && text.ptr[first] == '0')
        first++;
    while (end > point && (text.ptr[end - 1] == '0' || text.ptr[end - 1] == '.'))
        end--;
    size_t after = end > point ? point + 1 : end;
    parts->before = (string){text.ptr + first, point - first};
    parts->after = (string){text.ptr + after, end - after};
    return true;
}

static bool take_digits(struct number *number, string digits) {
    for (size_t i = 0; i < digits.len; i++)
        if (times(number->limbs, 10, digits.ptr[i] - '0') != 0)
            return false;
    return true;
}

bool read_number(string text, struct number *number) {
    struct parts parts;
    if (!split(text, &parts) || parts.after.len > DIGITS)
        return false;
    *number = whole(0);
    number->places = parts.after.len;
    return take_digits(number, parts.before) && take_digits(number, parts.after);
}

string written(struct number number) {
    uint64_t rest = quotient(number.limbs, number.divisor);
    uint8_t digits[2 * MOST_DIGITS];
    size_t count = 0;
    // From the lowest to the highest, and at least one before the point.
    while (count <= number.places || !is_zero(number.limbs))
        digits[count++] = '0' + tenth(number.limbs);
    size_t before = count - number.places;
    uint8_t text[2 * MOST_DIGITS + 1];
    size_t length = 0;
    for (size_t i = 0; i < before; i++)
        text[length++] = digits[--count];
    text[length++] = '.';
    while (length <= DIGITS && (count != 0 || rest != 0)) {
        if (count != 0) {
            text[length++] = digits[--count];
        } else {
            rest *= 10;
            text[length++] = '0' + (uint8_t)(rest / number.divisor);
            rest %= number.divisor;
        }
    }
    while (text[length - 1] == '0')
        length--;
    if (text[length - 1] == '.')
        length--;
    return JOIN((string){text, length});
}

bool is_decimal(string text) {
    struct parts parts;
    return split(text, &parts);
}

int compare_decimals(string left, string right) {
    struct parts a, b;
    if (!split(left, &a) || !split(right, &b))
        return 0;
    if (a.before.len != b.before.len)
        return a.before.len < b.before.len ? -1 : 1;
    int order = compare(a.before, b.before);
    return order != 0 ? order : compare(a.after, b.after);
}
