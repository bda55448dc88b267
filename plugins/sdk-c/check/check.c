#include "situation.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/// Of memory that nobody wrote to: what depends on it is seen to.
#define UNWRITTEN 0xa5
#define MOST_PARAMETERS 32

void *allocate(size_t count, size_t size) {
    size_t length = size != 0 && count > SIZE_MAX / size ? SIZE_MAX : count * size;
    void *memory = malloc(length != 0 ? length : 1);
    if (memory == NULL)
        abort();
    return memset(memory, UNWRITTEN, length);
}

void keep_memory(void) {
}

void release_memory(void) {
}

void ashlar_policy_log_write(ashlar_policy_log_level_t level, string *line) {
    (void)level;
    (void)line;
}

uint64_t ashlar_policy_random_next(void) {
    return 0;
}

void ashlar_string_set(string *text, const char *characters) {
    *text = words(characters);
}

void ashlar_string_dup(string *text, const char *characters) {
    *text = JOIN(words(characters));
}

void ashlar_string_dup_n(string *text, const char *characters, size_t length) {
    *text = JOIN((string){(uint8_t *)characters, length});
}

void expect(bool holds, const char *file, int line, const char *format, ...) {
    if (holds)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static bool is_parameter(const char *text, size_t length, parameter *parameter) {
    const char *sign = memchr(text, '=', length);
    if (sign == NULL)
        return false;
    size_t before = (size_t)(sign - text);
    parameter->name = (string){(uint8_t *)text, before};
    parameter->value = (string){(uint8_t *)sign + 1, length - before - 1};
    return true;
}

configuration parameters_of(const char *text) {
    configuration configuration = {allocate(MOST_PARAMETERS, sizeof(parameter)), 0};
    for (const char *next = text; *next != 0;) {
        size_t length = strcspn(next, " ");
        if (length != 0) {
            EXPECT(configuration.len < MOST_PARAMETERS, "`%s` are too many parameters", text);
            EXPECT(is_parameter(next, length, &configuration.ptr[configuration.len++]), "`%.*s` is not name=value", (int)length, next);
        }
        next += length + (next[length] == ' ');
    }
    return configuration;
}

void check_refusal(const char *text) {
    configuration parameters = parameters_of(text);
    string error = words("");
    EXPECT(!check_configuration(&parameters, &error), "it takes the parameters `%s`, which make no sense", text);
    EXPECT(error.len != 0, "it does not say what is wrong with the parameters `%s`", text);
}

/// Asked again in the opposite order, it must say the same: what it remembers would show.
void check_policy(const char *text) {
    configuration parameters = parameters_of(text);
    string error = words("");
    EXPECT(check_configuration(&parameters, &error), "it does not take the parameters `%s`: %.*s", text, SHOWN(error));
    static uint64_t said[SITUATIONS];
    for (uint64_t seed = 0; seed < SITUATIONS; seed++)
        said[seed] = check_situation(&parameters, seed);
    for (uint64_t seed = SITUATIONS; seed-- > 0;)
        EXPECT(check_situation(&parameters, seed) == said[seed], "situation %d: asked again, it says something else", (int)seed);
    check_all();
    if (parameters.len == 0)
        fprintf(stderr, "without parameters it keeps what it must in %d situations\n", SITUATIONS);
    else
        fprintf(stderr, "with `%s` it keeps what it must in %d situations\n", text, SITUATIONS);
}

uint64_t next_number(struct numbers *numbers) {
    numbers->state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = numbers->state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t below(struct numbers *numbers, uint64_t limit) {
    return next_number(numbers) % (limit != 0 ? limit : 1);
}

bool chance(struct numbers *numbers, uint64_t of) {
    return below(numbers, of) == 0;
}

string one_of(struct numbers *numbers, const char *const *list, size_t count) {
    return words(list[below(numbers, count)]);
}

string made_up_id(struct numbers *numbers, const char *prefix) {
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)next_number(numbers));
    return JOIN(words(prefix), words(text));
}

struct digest new_digest(void) {
    return (struct digest){UINT64_C(0xcbf29ce484222325)};
}

void digest_bytes(struct digest *digest, const void *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        digest->state = (digest->state ^ ((const uint8_t *)bytes)[i]) * UINT64_C(0x100000001b3);
}

void digest_string(struct digest *digest, string text) {
    digest_bytes(digest, &text.len, sizeof text.len);
    digest_bytes(digest, text.ptr, text.len);
}

void digest_option(struct digest *digest, ashlar_option_string_t text) {
    digest_string(digest, text.is_some ? text.val : words("none"));
}

bool is_sentence(string text, size_t most) {
    size_t characters = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < ' ' || text.ptr[i] == 0x7f)
            return false;
        // What continues a character in UTF-8 begins none.
        characters += (text.ptr[i] & 0xc0) != 0x80;
    }
    return characters >= 1 && characters <= most;
}
