#include "text.h"

#include "stdlib.h"
#include "string.h"

billing_string_t words(const char *literal) {
    return (billing_string_t){(uint8_t *)literal, strlen(literal)};
}

bool equal(billing_string_t left, billing_string_t right) {
    return left.len == right.len && memcmp(left.ptr, right.ptr, left.len) == 0;
}

int compare(billing_string_t left, billing_string_t right) {
    size_t common = left.len < right.len ? left.len : right.len;
    int order = memcmp(left.ptr, right.ptr, common);
    if (order != 0)
        return order;
    return (left.len > right.len) - (left.len < right.len);
}

bool starts_with(billing_string_t text, billing_string_t prefix) {
    return text.len >= prefix.len && memcmp(text.ptr, prefix.ptr, prefix.len) == 0;
}

billing_string_t join(const billing_string_t *parts, size_t count) {
    size_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += parts[i].len;
    billing_string_t whole = {cabi_realloc(NULL, 0, 1, length), length};
    uint8_t *next = whole.ptr;
    for (size_t i = 0; i < count; i++) {
        memcpy(next, parts[i].ptr, parts[i].len);
        next += parts[i].len;
    }
    return whole;
}
