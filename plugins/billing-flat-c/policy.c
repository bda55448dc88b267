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

static const char *const NEEDED[] = {"currency", "vcpu", "memory-gib", "disk-gib"};
static const char *const LISTS[] = {"instance-type.", "disk-category.", "meter."};

static configuration parameters;

static bool is_known(string name) {
    for (size_t i = 0; i < COUNT(NEEDED); i++)
        if (equal(name, words(NEEDED[i])))
            return true;
    for (size_t i = 0; i < COUNT(LISTS); i++)
        if (starts_with(name, words(LISTS[i])))
            return true;
    return false;
}

static const parameter *find(string list, string name) {
    for (size_t i = 0; i < parameters.len; i++) {
        const parameter *parameter = &parameters.ptr[i];
        string rest = parameter->name;
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
static bool read_own(const parameter *parameter, uint64_t *price, string *error) {
    return read_price(parameter->value, price) || fail(error, JOIN(words("parameter `"), parameter->name, words("` is `"),
        parameter->value, words("`; it must be from 0 to 1000000 with at most nine decimal places")));
}

bool configure(const configuration *configuration, string *error) {
    parameters = *configuration;
    for (size_t i = 0; i < COUNT(NEEDED); i++)
        if (find(words(""), words(NEEDED[i])) == NULL)
            return fail(error, JOIN(words("parameter `"), words(NEEDED[i]), words("` is missing")));
    for (size_t i = 0; i < parameters.len; i++) {
        const parameter *parameter = &parameters.ptr[i];
        uint64_t price;
        if (!is_known(parameter->name))
            return fail(error, JOIN(words("unknown parameter `"), parameter->name, words("`")));
        if (!equal(parameter->name, words("currency")) && !read_own(parameter, &price, error))
            return false;
    }
    return true;
}

string currency(void) {
    return find(words(""), words("currency"))->value;
}

/// What `quantity` of something costs that has a price of its own in `list`, or else the price `otherwise`; free without either.
static bool price_in(const char *list, string name, const char *otherwise, struct number quantity, struct number *price,
    string *error) {
    const parameter *parameter = find(words(list), name);
    if (parameter == NULL)
        parameter = find(words(""), words(otherwise));
    uint64_t each = 0;
    if (parameter != NULL && !read_own(parameter, &each, error))
        return false;
    *price = quantity;
    return multiply_price(price, each) || fail(error, JOIN(words("the price of "), name, words(" is out of range")));
}

static bool price_per_hour(const usage *usage, struct number *price, string *error) {
    switch (usage->tag) {
    case INSTANCE_RUNNING:
    case INSTANCE_STOPPED: {
        const instance_usage *instance = instance_of(usage);
        string type = instance->instance_type;
        if (find(words("instance-type."), type) != NULL)
            return price_in("instance-type.", type, "", whole(1), price, error);
        struct number memory;
        if (!price_in("", words("vcpu"), "", whole(instance->vcpus), price, error)
            || !price_in("", words("memory-gib"), "", gib(instance->memory), &memory, error))
            return false;
        return add(price, memory) || fail(error, JOIN(words("the price of "), type, words(" is out of range")));
    }
    case DISK_ALLOCATED: {
        const disk_usage *disk = &usage->val.disk_allocated;
        return price_in("disk-category.", disk->category, "disk-gib", gib(disk->size), price, error);
    }
    default: {
        const other_usage *other = &usage->val.other;
        struct number quantity;
        if (!read_number(other->quantity, &quantity))
            return fail(error, JOIN(words("`"), other->quantity, words("` is no quantity of "), other->meter));
        return price_in("meter.", other->meter, "", quantity, price, error);
    }
    }
}

bool price_of(const usage_interval *interval, struct number *price, string *error) {
    if (!price_per_hour(&interval->usage, price, error))
        return false;
    divide(price, SECONDS_PER_HOUR);
    return multiply(price, interval->seconds) || fail(error, words("a price is out of range"));
}
