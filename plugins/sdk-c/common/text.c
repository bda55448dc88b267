#include "text.h"

#include "memory.h"

#include <string.h>

/// 2^64 has as many digits.
#define MOST_DIGITS 20

string words(const char *literal) {
    return (string){(uint8_t *)literal, strlen(literal)};
}

string digits(uint64_t number) {
    uint8_t text[MOST_DIGITS];
    size_t first = MOST_DIGITS;
    do {
        text[--first] = '0' + number % 10;
        number /= 10;
    } while (number != 0);
    return JOIN((string){text + first, MOST_DIGITS - first});
}

bool equal(string left, string right) {
    return left.len == right.len && compare(left, right) == 0;
}

int compare(string left, string right) {
    size_t common = left.len < right.len ? left.len : right.len;
    int order = common == 0 ? 0 : memcmp(left.ptr, right.ptr, common);
    if (order != 0)
        return order;
    return (left.len > right.len) - (left.len < right.len);
}

bool starts_with(string text, string prefix) {
    return text.len >= prefix.len && equal((string){text.ptr, prefix.len}, prefix);
}

string join(const string *parts, size_t count) {
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += parts[i].len;
    string whole = {allocate(length, 1), length};
    uint8_t *next = whole.ptr;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len == 0)
            continue;
        memcpy(next, parts[i].ptr, parts[i].len);
        next += parts[i].len;
    }
    return whole;
}

bool fail(string *error, string why) {
    *error = why;
    return false;
}

void say(ashlar_policy_log_level_t level, string line) {
    ashlar_policy_log_write(level, &line);
}
