#include "policy.h"

#define PRICE_PLACES 9
#define GIB (UINT64_C(1) << 30)

bool read_price(string text, uint64_t *billionths) {
    struct number number;
    if (!read_number(text, &number) || number.places > PRICE_PLACES || compare_decimals(text, words("1000000")) > 0)
        return false;
    *billionths = (uint64_t)number.limbs[1] << 32 | number.limbs[0];
    for (unsigned places = number.places; places < PRICE_PLACES; places++)
        *billionths *= 10;
    return true;
}

bool read_price_parameter(const configuration *configuration, const char *name, const char *otherwise, uint64_t *billionths,
    string *error) {
    const string *value = value_of(configuration, name);
    string text = value != NULL ? *value : words(otherwise);
    return read_price(text, billionths) || fail(error, JOIN(words("parameter `"), words(name), words("` is `"), text,
        words("`; it must be from 0 to 1000000 with at most nine decimal places")));
}

bool multiply_price(struct number *quantity, uint64_t billionths) {
    quantity->places += PRICE_PLACES;
    return multiply(quantity, billionths);
}

struct number gib(uint64_t bytes) {
    struct number size = whole(1);
    divide(&size, GIB);
    multiply(&size, bytes);
    return size;
}

const instance_usage *instance_of(const usage *usage) {
    switch (usage->tag) {
    case INSTANCE_RUNNING:
        return &usage->val.instance_running;
    case INSTANCE_STOPPED:
        return &usage->val.instance_stopped;
    default:
        return NULL;
    }
}

bool configure_in(const configuration *configuration, string asked, string *error) {
    if (!configure(configuration, error))
        return false;
    return equal(currency(), asked)
        || fail(error, JOIN(words("prices are asked for in "), asked, words(", but are set in "), currency()));
}

bool exports_ashlar_policy_rating_check_configuration(configuration *configuration, string *error) {
    return configure(configuration, error);
}

bool exports_ashlar_policy_rating_rate(configuration *configuration, string *currency,
    exports_ashlar_policy_rating_list_usage_interval_t *usage, exports_ashlar_policy_rating_list_price_t *prices, string *error) {
    if (!configure_in(configuration, *currency, error))
        return false;
    prices->len = usage->len;
    prices->ptr = allocate(usage->len, sizeof(price));
    for (size_t i = 0; i < usage->len; i++) {
        struct number number;
        if (!price_of(&usage->ptr[i], &number, error))
            return false;
        prices->ptr[i] = (price){written(number), *currency};
    }
    return true;
}
