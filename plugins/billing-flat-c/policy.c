// Flat prices per hour, charged by the second; the policy `billing-payg` in C, without a library and without floats.
//
// Parameters, all decimal numbers in the currency's main unit per hour, from 0 to 1,000,000 with at most nine decimal places:
// - `instance-type.<name>`: a running instance of that type;
// - `vcpu` and `memory-gib`: a vCPU and a GiB of memory of a running instance of any other type;
// - `disk-category.<name>`: a GiB of a disk of that category; `disk-gib`: of any other category;
// - `meter.<name>`: a unit of any other meter; meters without a price are free;
//
// and `currency`, an ISO 4217 code. `currency`, `vcpu`, `memory-gib` and `disk-gib` must be set.

#include "policy.h"

#include "stdlib.h"

#define PRICE_PLACES 9
#define SECONDS_PER_HOUR 3600

static const char *const NEEDED[] = {"currency", "vcpu", "memory-gib", "disk-gib"};
static const char *const LISTS[] = {"instance-type.", "disk-category.", "meter."};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

bool fail(billing_string_t *error, billing_string_t why) {
    *error = why;
    return false;
}

static bool is_known(billing_string_t name) {
    for (size_t i = 0; i < COUNT(NEEDED); i++)
        if (equal(name, words(NEEDED[i])))
            return true;
    for (size_t i = 0; i < COUNT(LISTS); i++)
        if (starts_with(name, words(LISTS[i])))
            return true;
    return false;
}

static const parameter *find(const configuration *configuration, billing_string_t list, billing_string_t name) {
    for (size_t i = 0; i < configuration->len; i++) {
        const parameter *parameter = &configuration->ptr[i];
        billing_string_t rest = parameter->name;
        if (!starts_with(rest, list))
            continue;
        rest.ptr += list.len;
        rest.len -= list.len;
        if (equal(rest, name))
            return parameter;
    }
    return NULL;
}

/// The price in units of its last decimal place.
static bool read_price(const parameter *parameter, uint64_t *price, billing_string_t *error) {
    struct number number;
    if (!read_number(parameter->value, &number) || number.places > PRICE_PLACES
        || compare_decimals(parameter->value, words("1000000")) > 0)
        return fail(error, JOIN(words("parameter `"), parameter->name, words("` is `"), parameter->value,
            words("`; it must be from 0 to 1000000 with at most nine decimal places")));
    *price = (uint64_t)number.limbs[1] << 32 | number.limbs[0];
    for (unsigned places = number.places; places < PRICE_PLACES; places++)
        *price *= 10;
    return true;
}

bool check(const configuration *configuration, billing_string_t *error) {
    for (size_t i = 0; i < COUNT(NEEDED); i++)
        if (find(configuration, words(""), words(NEEDED[i])) == NULL)
            return fail(error, JOIN(words("parameter `"), words(NEEDED[i]), words("` is missing")));
    for (size_t i = 0; i < configuration->len; i++) {
        const parameter *parameter = &configuration->ptr[i];
        uint64_t price;
        if (!is_known(parameter->name))
            return fail(error, JOIN(words("unknown parameter `"), parameter->name, words("`")));
        if (!equal(parameter->name, words("currency")) && !read_price(parameter, &price, error))
            return false;
    }
    return true;
}

bool check_in(const configuration *configuration, billing_string_t currency, billing_string_t *error) {
    if (!check(configuration, error))
        return false;
    billing_string_t own = find(configuration, words(""), words("currency"))->value;
    if (!equal(own, currency))
        return fail(error, JOIN(words("prices are asked for in "), currency, words(", but are set in "), own));
    return true;
}

/// What `quantity` of something costs that has a price of its own in `list`, or else the price `otherwise`; free without either.
static bool price_of(const configuration *configuration, const char *list, billing_string_t name, const char *otherwise,
    struct number quantity, struct number *price, billing_string_t *error) {
    const parameter *parameter = find(configuration, words(list), name);
    if (parameter == NULL)
        parameter = find(configuration, words(""), words(otherwise));
    uint64_t each = 0;
    if (parameter != NULL && !read_price(parameter, &each, error))
        return false;
    *price = quantity;
    price->places += PRICE_PLACES;
    return multiply(price, each) || fail(error, JOIN(words("the price of "), name, words(" is out of range")));
}

struct number gib(uint64_t bytes) {
    struct number size = whole(1);
    divide(&size, GIB);
    multiply(&size, bytes);
    return size;
}

static bool per_hour(const configuration *configuration, const usage *usage, struct number *price, billing_string_t *error) {
    switch (usage->tag) {
    case EXPORTS_ASHLAR_POLICY_RATING_USAGE_INSTANCE_RUNNING: {
        const exports_ashlar_policy_rating_instance_usage_t *instance = &usage->val.instance_running;
        billing_string_t type = instance->instance_type;
        if (find(configuration, words("instance-type."), type) != NULL)
            return price_of(configuration, "instance-type.", type, "", whole(1), price, error);
        struct number memory;
        if (!price_of(configuration, "", words("vcpu"), "", whole(instance->vcpus), price, error)
            || !price_of(configuration, "", words("memory-gib"), "", gib(instance->memory), &memory, error))
            return false;
        return add(price, memory) || fail(error, JOIN(words("the price of "), type, words(" is out of range")));
    }
    case EXPORTS_ASHLAR_POLICY_RATING_USAGE_DISK_ALLOCATED: {
        const exports_ashlar_policy_rating_disk_usage_t *disk = &usage->val.disk_allocated;
        return price_of(configuration, "disk-category.", disk->category, "disk-gib", gib(disk->size), price, error);
    }
    default: {
        const exports_ashlar_policy_rating_other_usage_t *other = &usage->val.other;
        struct number quantity;
        if (!read_number(other->quantity, &quantity))
            return fail(error, JOIN(words("`"), other->quantity, words("` is no quantity of "), other->meter));
        return price_of(configuration, "meter.", other->meter, "", quantity, price, error);
    }
    }
}

bool price_for(const configuration *configuration, const usage *usage, uint64_t seconds, struct number *price,
    billing_string_t *error) {
    if (!per_hour(configuration, usage, price, error))
        return false;
    divide(price, SECONDS_PER_HOUR);
    return multiply(price, seconds) || fail(error, words("a price is out of range"));
}

bool exports_ashlar_policy_rating_check_configuration(configuration *configuration, billing_string_t *error) {
    return check(configuration, error);
}

bool exports_ashlar_policy_rating_rate(configuration *configuration, billing_string_t *currency,
    exports_ashlar_policy_rating_list_usage_interval_t *usage, exports_ashlar_policy_rating_list_price_t *prices,
    billing_string_t *error) {
    if (!check_in(configuration, *currency, error))
        return false;
    prices->len = usage->len;
    prices->ptr = cabi_realloc(NULL, 0, _Alignof(price), usage->len * sizeof(price));
    for (size_t i = 0; i < usage->len; i++) {
        struct number number;
        if (!price_for(configuration, &usage->ptr[i].usage, usage->ptr[i].seconds, &number, error))
            return false;
        prices->ptr[i] = (price){written(number), *currency};
    }
    return true;
}
