// The commercial decisions by the rules of the product: a quote is what rating says of an hour or of a term, a renewal costs what
// the plan says, a debt is followed up as it is due, and of preemptible instances the lowest bid goes first.

#include "policy.h"

#include "stdlib.h"

#define HOUR UINT64_C(3600)
#define DAY (24 * HOUR)

typedef exports_ashlar_policy_commerce_charge_type_t charge_type;
typedef exports_ashlar_policy_commerce_quote_request_t quote_request;
typedef exports_ashlar_policy_commerce_price_line_t price_line;
typedef exports_ashlar_policy_commerce_preemptible_instance_t preemptible_instance;

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

/// The market price of a preemptible instance where there is one; none of anything else.
static const billing_string_t *market_price(const charge_type *charge) {
    if (charge->tag != EXPORTS_ASHLAR_POLICY_COMMERCE_CHARGE_TYPE_PREEMPTIBLE || !charge->val.preemptible.market_price.is_some)
        return NULL;
    return &charge->val.preemptible.market_price.val;
}

/// A line for as many of something as are asked about, `each` at that price.
static bool quote_line(const quote_request *request, billing_string_t what, billing_string_t currency, struct number each,
    price_line *line, billing_string_t *error) {
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

bool exports_ashlar_policy_commerce_quote(exports_ashlar_policy_commerce_list_parameter_t *parameters, billing_string_t *currency,
    quote_request *request, exports_ashlar_policy_commerce_list_price_line_t *lines, billing_string_t *error) {
    const configuration configuration = {parameters->ptr, parameters->len};
    if (!check_in(&configuration, *currency, error))
        return false;
    lines->len = 1 + request->disks.len;
    lines->ptr = cabi_realloc(NULL, 0, _Alignof(price_line), lines->len * sizeof(price_line));
    uint64_t seconds = quoted_seconds(&request->charge);
    const billing_string_t *market = market_price(&request->charge);
    struct number each;
    if (market != NULL) {
        if (!read_number(*market, &each))
            return fail(error, JOIN(words("`"), *market, words("` is no market price")));
    } else {
        const usage instance = {
            .tag = EXPORTS_ASHLAR_POLICY_RATING_USAGE_INSTANCE_RUNNING,
            .val.instance_running = {request->instance_type, request->vcpus, request->memory},
        };
        if (!price_for(&configuration, &instance, seconds, &each, error))
            return false;
    }
    if (!quote_line(request, request->instance_type, *currency, each, &lines->ptr[0], error))
        return false;
    for (size_t i = 0; i < request->disks.len; i++) {
        const usage disk = {
            .tag = EXPORTS_ASHLAR_POLICY_RATING_USAGE_DISK_ALLOCATED,
            .val.disk_allocated = request->disks.ptr[i],
        };
        billing_string_t size = written(gib(disk.val.disk_allocated.size));
        billing_string_t what = JOIN(disk.val.disk_allocated.category, words(" of "), size, words(" GiB"));
        if (!price_for(&configuration, &disk, seconds, &each, error)
            || !quote_line(request, what, *currency, each, &lines->ptr[1 + i], error))
            return false;
    }
    return true;
}

bool exports_ashlar_policy_commerce_renewal(exports_ashlar_policy_commerce_list_parameter_t *parameters,
    exports_ashlar_policy_commerce_renewal_request_t *request, exports_ashlar_policy_commerce_renewal_answer_t *answer,
    billing_string_t *error) {
    const configuration configuration = {parameters->ptr, parameters->len};
    if (!check_in(&configuration, request->price.currency, error))
        return false;
    *answer = (exports_ashlar_policy_commerce_renewal_answer_t){
        .tag = EXPORTS_ASHLAR_POLICY_COMMERCE_RENEWAL_ANSWER_RENEW,
        .val.renew.price = request->price,
    };
    return true;
}

bool exports_ashlar_policy_commerce_arrears(exports_ashlar_policy_commerce_list_parameter_t *parameters,
    exports_ashlar_policy_commerce_debt_t *debt, exports_ashlar_policy_commerce_arrears_step_t *step, billing_string_t *error) {
    const configuration configuration = {parameters->ptr, parameters->len};
    if (!check_in(&configuration, debt->owed.currency, error))
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

bool exports_ashlar_policy_commerce_preempt(exports_ashlar_policy_commerce_list_parameter_t *parameters,
    exports_ashlar_policy_commerce_preemption_t *preemption, billing_list_string_t *ids, billing_string_t *error) {
    const configuration configuration = {parameters->ptr, parameters->len};
    if (!check(&configuration, error))
        return false;
    size_t count = 0, all = preemption->instances.len;
    const preemptible_instance **order = cabi_realloc(NULL, 0, _Alignof(void *), all * sizeof *order);
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
    ids->ptr = cabi_realloc(NULL, 0, _Alignof(billing_string_t), count * sizeof(billing_string_t));
    for (size_t i = 0; i < count; i++)
        ids->ptr[i] = order[i]->id;
    return true;
}
