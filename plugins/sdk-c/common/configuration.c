#include "policy.h"

const string *value_of(const configuration *configuration, const char *name) {
    for (size_t i = 0; i < configuration->len; i++)
        if (equal(configuration->ptr[i].name, words(name)))
            return &configuration->ptr[i].value;
    return NULL;
}

static string listed(const char *const *names, size_t count) {
    string list = words("");
    for (size_t i = 0; i < count; i++)
        list = JOIN(list, words(i == 0 ? "`" : ", `"), words(names[i]), words("`"));
    return list;
}

bool allow(const configuration *configuration, const char *const *names, size_t count, string *error) {
    for (size_t i = 0; i < configuration->len; i++) {
        string name = configuration->ptr[i].name;
        bool is_known = false;
        for (size_t known = 0; known < count && !is_known; known++)
            is_known = equal(name, words(names[known]));
        if (!is_known)
            return fail(error, JOIN(words("unknown parameter `"), name, words("`; there are "), listed(names, count)));
    }
    return true;
}

bool read_whole(const configuration *configuration, const char *name, uint64_t otherwise, uint64_t most, uint64_t *value,
    string *error) {
    const string *text = value_of(configuration, name);
    *value = otherwise;
    if (text == NULL)
        return true;
    uint64_t number = 0;
    bool is_good = text->len != 0;
    for (size_t i = 0; i < text->len && is_good; i++) {
        uint8_t digit = text->ptr[i] - '0';
        is_good = digit <= 9 && digit <= most && number <= (most - digit) / 10;
        number = number * 10 + digit;
    }
    *value = number;
    return is_good || fail(error, JOIN(words("parameter `"), words(name), words("` is `"), *text,
        words("`; it must be a whole number from 0 to "), digits(most)));
}
