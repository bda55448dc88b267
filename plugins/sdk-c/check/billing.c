// A billing policy sets prices that are decimal numbers, not negative, in the currency that was asked for, not lower for the same usage
// over a longer time, and the same when it is asked again. It may refuse to price what it has no price for, but not everything. What it has
// metered of instances has names and quantities that can be.

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
        instance_usage instance = {type, vcpus, memory};
        if (below(numbers, 4) == 0)
            return (usage){.tag = INSTANCE_STOPPED, .val.instance_stopped = instance};
        return (usage){.tag = INSTANCE_RUNNING, .val.instance_running = instance};
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

static const char *const OWN_METERS[] = {"instance-running", "instance-stopped", "instance-preemptible", "disk-allocated",
    "image-stored"};

#define MOST_METERS 16
#define MOST_METER_NAME 64
#define MOST_METER_PLACES 9
#define MOST_METERED "1000000000"

static bool is_meter_name(string name) {
    for (size_t i = 0; i < name.len; i++) {
        char c = (char)name.ptr[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && c != '.' && c != '-')
            return false;
    }
    for (size_t i = 0; i < COUNT(OWN_METERS); i++)
        if (equal(name, words(OWN_METERS[i])))
            return false;
    return name.len >= 1 && name.len <= MOST_METER_NAME;
}

static bool is_metered_quantity(string quantity) {
    struct number number;
    return read_number(quantity, &number) && number.places <= MOST_METER_PLACES
        && compare_decimals(quantity, words("0")) > 0 && compare_decimals(quantity, words(MOST_METERED)) <= 0;
}

static void check_meters(int seed, const configuration *parameters, struct numbers *numbers, struct digest *digest) {
    exports_ashlar_policy_metering_tag_t tags[] = {{words("licence"), words("database")}, {words("role"), words("web")}};
    uint32_t vcpus = UINT32_C(1) << below(numbers, 6);
    exports_ashlar_policy_metering_instance_t instance = {
        .id = made_up_id(numbers, "i-"),
        .account = words("team-a"),
        .size = {one_of(numbers, TYPES, COUNT(TYPES)), vcpus, vcpus * 4 * GIB},
        .image = made_up_id(numbers, "m-"),
        .tags = {tags, below(numbers, COUNT(tags) + 1)},
        .subscribed = chance(numbers, 4),
    };
    exports_ashlar_policy_metering_list_parameter_t given = {parameters->ptr, parameters->len};
    exports_ashlar_policy_metering_list_meter_t meters = {0};
    string error = words("");
    if (!exports_ashlar_policy_metering_meters(&given, &instance, &meters, &error)) {
        EXPECT(error.len != 0, "situation %d: it does not say why it does not know what is metered", seed);
        return;
    }
    EXPECT(meters.len <= MOST_METERS, "situation %d: %d meters of an instance", seed, (int)meters.len);
    for (size_t i = 0; i < meters.len; i++) {
        string name = meters.ptr[i].name, quantity = meters.ptr[i].quantity;
        EXPECT(is_meter_name(name), "situation %d: `%.*s` is no name of a meter", seed, SHOWN(name));
        EXPECT(is_metered_quantity(quantity), "situation %d: of %.*s there is `%.*s`", seed, SHOWN(name), SHOWN(quantity));
        for (size_t j = 0; j < i; j++)
            EXPECT(!equal(name, meters.ptr[j].name), "situation %d: %.*s is metered twice", seed, SHOWN(name));
        digest_string(digest, name);
        digest_string(digest, quantity);
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
    check_meters(number, parameters, &numbers, &digest);
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
