// A billing policy sets prices that are decimal numbers, not negative, in the currency that was asked for, not lower for the same usage
// over a longer time, and the same when it is asked again. It may refuse to price what it has no price for, but not everything.

#include "situation.h"

static const char *const TYPES[] = {"ecs.g6.large", "ecs.c6.xlarge", "custom", "ecs.t5.small"};
static const char *const CATEGORIES[] = {"cloud_essd", "cloud_efficiency", "cloud"};
static const char *const METERS[] = {"snapshot-gib", "egress-bytes", "eip", "image-gib"};

#define LONGER 4
#define MOST_DIGITS 28
#define YEAR_2026 INT64_C(1767225600000)
/// A code that ISO 4217 keeps for tests.
#define OTHER_CURRENCY "XTS"

/// Situations in which there was a price, in this check.
static size_t priced;

static usage make_up_usage(struct numbers *numbers) {
    switch (below(numbers, 3)) {
    case 0: {
        uint32_t vcpus = UINT32_C(1) << below(numbers, 6);
        string type = one_of(numbers, TYPES, COUNT(TYPES));
        uint64_t memory = vcpus * (1 + below(numbers, 8)) * GIB;
        return (usage){.tag = INSTANCE_RUNNING, .val.instance_running = {type, vcpus, memory}};
    }
    case 1: {
        string category = one_of(numbers, CATEGORIES, COUNT(CATEGORIES));
        uint64_t size = (1 + below(numbers, 32768)) * GIB;
        return (usage){.tag = DISK_ALLOCATED, .val.disk_allocated = {category, size}};
    }
    default: {
        string meter = one_of(numbers, METERS, COUNT(METERS));
        struct number quantity = whole(below(numbers, 1000000));
        divide(&quantity, 1000);
        return (usage){.tag = EXPORTS_ASHLAR_POLICY_RATING_USAGE_OTHER, .val.other = {meter, written(quantity)}};
    }
    }
}

static size_t digits_of(string amount) {
    size_t digits = 0;
    for (size_t i = 0; i < amount.len; i++)
        digits += amount.ptr[i] != '.';
    return digits;
}

static void check_price(int seed, const price *price, string currency) {
    string amount = price->amount;
    EXPECT(is_decimal(amount), "situation %d: its price is `%.*s`, no number of digits", seed, SHOWN(amount));
    EXPECT(digits_of(amount) <= MOST_DIGITS && compare_decimals(amount, words("1000000000000000")) <= 0,
        "situation %d: its price is %.*s, which is too long or too large", seed, SHOWN(amount));
    EXPECT(equal(price->currency, currency), "situation %d: its price is in %.*s, but was asked for in %.*s", seed,
        SHOWN(price->currency), SHOWN(currency));
}

/// Asks for the prices; none if it refuses.
static bool rated(int seed, const configuration *parameters, string currency, usage_interval *intervals, size_t count,
    exports_ashlar_policy_rating_list_price_t *prices, string *error) {
    configuration given = *parameters;
    exports_ashlar_policy_rating_list_usage_interval_t list = {intervals, count};
    if (!exports_ashlar_policy_rating_rate(&given, &currency, &list, prices, error)) {
        EXPECT(error->len != 0, "situation %d: it does not say why there is no price", seed);
        return false;
    }
    EXPECT(prices->len == count, "situation %d: %d prices for %d intervals", seed, (int)prices->len, (int)count);
    for (size_t i = 0; i < count; i++)
        check_price(seed, &prices->ptr[i], currency);
    return true;
}

bool check_configuration(configuration *parameters, string *error) {
    return exports_ashlar_policy_rating_check_configuration(parameters, error);
}

uint64_t check_situation(const configuration *parameters, uint64_t seed) {
    int number = (int)seed;
    struct numbers numbers = {seed};
    string error = words("");
    EXPECT(configure(parameters, &error), "it does not take the same parameters again: %.*s", SHOWN(error));
    string own = currency();
    usage_interval intervals[1 + LONGER] = {{
        .resource = made_up_id(&numbers, "i-"),
        .usage = make_up_usage(&numbers),
        .from = YEAR_2026 + (int64_t)below(&numbers, 1000000000),
        .seconds = 1 + below(&numbers, 4000000),
    }};
    for (size_t i = 1; i <= LONGER; i++) {
        intervals[i] = intervals[i - 1];
        intervals[i].seconds += 1 + below(&numbers, 100000);
    }
    exports_ashlar_policy_rating_list_price_t alone = {0}, all = {0}, other = {0};
    struct digest digest = new_digest();
    if (!rated(number, parameters, own, intervals, 1, &alone, &error)) {
        digest_string(&digest, error);
        return digest.state;
    }
    priced++;
    digest_string(&digest, alone.ptr[0].amount);
    bool has_prices = rated(number, parameters, own, intervals, COUNT(intervals), &all, &error);
    EXPECT(has_prices, "situation %d: it has a price, but none for a longer time: %.*s", number, SHOWN(error));
    EXPECT(compare_decimals(alone.ptr[0].amount, all.ptr[0].amount) == 0,
        "situation %d: among others, the price is another one", number);
    for (size_t i = 1; i <= LONGER; i++)
        EXPECT(compare_decimals(all.ptr[i].amount, all.ptr[i - 1].amount) >= 0,
            "situation %d: it costs %.*s, but only %.*s for %llu s", number, SHOWN(all.ptr[i - 1].amount), SHOWN(all.ptr[i].amount),
            (unsigned long long)intervals[i].seconds);
    // It may say no, but not answer in its own.
    rated(number, parameters, words(OTHER_CURRENCY), intervals, 1, &other, &error);
    return digest.state;
}

void check_all(void) {
    EXPECT(priced != 0, "it prices nothing of what was made up");
    priced = 0;
}
