// Short names for what the bindings declare, and what the commercial decisions use of the price list.
//
// A function that can fail returns whether it went well; `error` then says why not, in a sentence for the operator.

#ifndef POLICY_H
#define POLICY_H

#include "billing.h"
#include "decimal.h"

typedef exports_ashlar_policy_rating_parameter_t parameter;
typedef exports_ashlar_policy_rating_list_parameter_t configuration;
typedef exports_ashlar_policy_rating_usage_t usage;
typedef exports_ashlar_policy_rating_price_t price;

#define GIB (UINT64_C(1) << 30)

/// A size in GiB.
struct number gib(uint64_t bytes);

/// Says why not; false, for whoever returns it.
bool fail(billing_string_t *error, billing_string_t why);

/// Whether the parameters make sense.
bool check(const configuration *configuration, billing_string_t *error);

/// Whether they do, and the prices are in this currency.
bool check_in(const configuration *configuration, billing_string_t currency, billing_string_t *error);

/// The price of what is used, for this many seconds.
bool price_for(const configuration *configuration, const usage *usage, uint64_t seconds, struct number *price,
    billing_string_t *error);

#endif
