// The commercial decisions by the rules of the product: a quote is what rating says of an hour or of a term, a renewal costs what
// the plan says, a debt is followed up as it is due, and of preemptible instances the lowest bid goes first. A policy that decides
// otherwise defines the function of the interface itself, which then takes the place of the one here. Nothing else is metered.

#include "policy.h"

#define HOUR UINT64_C(3600)
#define DAY (24 * HOUR)

#define UNLESS_DEFINED __attribute__((weak))

typedef exports_ashlar_policy_commerce_list_parameter_t list_parameter;
typedef exports_ashlar_policy_commerce_charge_type_t charge_type;
typedef exports_ashlar_policy_commerce_quote_request_t quote_request;
typedef exports_ashlar_policy_commerce_price_line_t price_line;
typedef exports_ashlar_policy_commerce_preemptible_instance_t preemptible_instance;

/// Two lists of the same parameters, of two interfaces.
#define AS_CONFIGURATION(list) ((const configuration){(list)->ptr, (list)->len})

/// How long what is quoted lasts, in seconds, where a week has 7 days, a month 30 and a year 365.
static uint64_t quoted_seconds(const charge_type *charge) {
    static const uint16_t days[] = {
        [EXPORTS_ASHLAR_POLICY_COMMERCE_PERIOD_UNIT_WEEK] = 7,
        [EXPORTS_ASHLAR_POLICY_COMMERCE_PERIOD_UNIT_MONTH] = 30,
        [EXPORTS_ASHLAR_POLICY_COMMERCE_PERIOD_UNIT_YEAR] = 365,
    };
    if (charge->tag != EXPORTS_ASHLAR_POLICY_COMMERCE_CHARGE_TYPE_SUBSCRIPTION)
        return HOUR;
    return charge->val.subscription.count * days[charge->val.subscription.unit] * DAY;
}

/// That use, for as long as what is quoted lasts.
static usage_interval quoted(const quote_request *request, usage usage) {
    return (usage_interval){words("quote"), usage, request->at, quoted_seconds(&request->charge)};
}

/// The market price of a preemptible instance where there is one; none of anything else.
static const string *market_price(const charge_type *charge) {
    if (charge->tag != EXPORTS_ASHLAR_POLICY_COMMERCE_CHARGE_TYPE_PREEMPTIBLE || !charge->val.preemptible.market_price.is_some)
        return NULL;
    return &charge->val.preemptible.market_price.val;
}

/// A line for as many of something as are asked about, `each` at that price.
static bool quote_line(const quote_request *request, string what, string currency, struct number each,
    price_line *line, string *error) {
    if (!multiply(&each, request->count))
        return fail(error, JOIN(words("the price of "), what, words(" is out of range")));
    bool is_term = request->charge.tag == EXPORTS_ASHLAR_POLICY_COMMERCE_CHARGE_TYPE_SUBSCRIPTION;
    *line = (price_line){
        .item = JOIN(written(whole(request->count)), words(" × "), what),
        .price = {written(each), currency},
        .per = is_term ? EXPORTS_ASHLAR_POLICY_COMMERCE_PRICE_UNIT_TERM : EXPORTS_ASHLAR_POLICY_COMMERCE_PRICE_UNIT_HOUR,
    };
    return true;
}

UNLESS_DEFINED
bool exports_ashlar_policy_commerce_quote(list_parameter *parameters, string *currency,
    quote_request *request, exports_ashlar_policy_commerce_list_price_line_t *lines, string *error) {
    if (!configure_in(&AS_CONFIGURATION(parameters), *currency, error))
        return false;
    lines->len = 1 + request->disks.len;
    lines->ptr = allocate(lines->len, sizeof(price_line));
    const string *market = market_price(&request->charge);
    struct number each;
    if (market != NULL) {
        if (!read_number(*market, &each))
            return fail(error, JOIN(words("`"), *market, words("` is no market price")));
    } else {
        const usage_interval instance = quoted(request, (usage){
            .tag = INSTANCE_RUNNING,
            .val.instance_running = {request->instance_type, request->vcpus, request->memory},
        });
        if (!price_of(&instance, &each, error))
            return false;
    }
    if (!quote_line(request, request->instance_type, *currency, each, &lines->ptr[0], error))
        return false;
    for (size_t i = 0; i < request->disks.len; i++) {
        const disk_usage *asked = &request->disks.ptr[i];
        const usage_interval disk = quoted(request, (usage){.tag = DISK_ALLOCATED, .val.disk_allocated = *asked});
        string what = JOIN(asked->category, words(" of "), written(gib(asked->size)), words(" GiB"));
        if (!price_of(&disk, &each, error)
            || !quote_line(request, what, *currency, each, &lines->ptr[1 + i], error))
            return false;
    }
    return true;
}

UNLESS_DEFINED
bool exports_ashlar_policy_commerce_renewal(list_parameter *parameters,
    exports_ashlar_policy_commerce_renewal_request_t *request, exports_ashlar_policy_commerce_renewal_answer_t *answer,
    string *error) {
    if (!configure_in(&AS_CONFIGURATION(parameters), request->price.currency, error))
        return false;
    *answer = (exports_ashlar_policy_commerce_renewal_answer_t){
        .tag = EXPORTS_ASHLAR_POLICY_COMMERCE_RENEWAL_ANSWER_RENEW,
        .val.renew.price = request->price,
    };
    return true;
}

UNLESS_DEFINED
bool exports_ashlar_policy_commerce_arrears(list_parameter *parameters,
    exports_ashlar_policy_commerce_debt_t *debt, exports_ashlar_policy_commerce_arrears_step_t *step, string *error) {
    if (!configure_in(&AS_CONFIGURATION(parameters), debt->owed.currency, error))
        return false;
    *step = debt->due;
    return true;
}

/// The lowest limit first; who pays any price last; of equals the newest, then by id.
static bool goes_before(const preemptible_instance *left, const preemptible_instance *right) {
    if (left->price_limit.is_some != right->price_limit.is_some)
        return left->price_limit.is_some;
    int order = left->price_limit.is_some ? compare_decimals(left->price_limit.val, right->price_limit.val) : 0;
    if (order != 0)
        return order < 0;
    if (left->started != right->started)
        return left->started > right->started;
    return compare(left->id, right->id) < 0;
}

UNLESS_DEFINED
bool exports_ashlar_policy_commerce_preempt(list_parameter *parameters,
    exports_ashlar_policy_commerce_preemption_t *preemption, ashlar_list_string_t *ids, string *error) {
    if (!configure(&AS_CONFIGURATION(parameters), error))
        return false;
    size_t count = 0, all = preemption->instances.len;
    const preemptible_instance **order = allocate(all, sizeof *order);
    for (size_t i = 0; i < all; i++) {
        const preemptible_instance *instance = &preemption->instances.ptr[i];
        if (instance->noticed || preemption->at < instance->protected_until)
            continue;
        if (instance->price_limit.is_some && !is_decimal(instance->price_limit.val))
            return fail(error, JOIN(words("`"), instance->price_limit.val, words("` is no price limit")));
        size_t place = count++;
        for (; place > 0 && goes_before(instance, order[place - 1]); place--)
            order[place] = order[place - 1];
        order[place] = instance;
    }
    ids->len = count;
    ids->ptr = allocate(count, sizeof(string));
    for (size_t i = 0; i < count; i++)
        ids->ptr[i] = order[i]->id;
    return true;
}

UNLESS_DEFINED
bool exports_ashlar_policy_metering_meters(exports_ashlar_policy_metering_list_parameter_t *parameters,
    exports_ashlar_policy_metering_instance_t *instance, exports_ashlar_policy_metering_list_meter_t *meters, string *error) {
    (void)instance;
    *meters = (exports_ashlar_policy_metering_list_meter_t){0};
    return configure(&AS_CONFIGURATION(parameters), error);
}
