// A policy that sets prices. It defines `configure`, `currency` and `price_of`; the commercial decisions are made by the rules of the
// product, unless the policy defines those functions of the interface itself.
//
// A function that can fail returns whether it went well; `error` then says why not, in a sentence for the operator.

#ifndef POLICY_H
#define POLICY_H

#include "decimal.h"
#include "memory.h"
#include "text.h"

typedef exports_ashlar_policy_rating_parameter_t parameter;
typedef exports_ashlar_policy_rating_list_parameter_t configuration;
typedef exports_ashlar_policy_rating_usage_t usage;
typedef exports_ashlar_policy_rating_usage_interval_t usage_interval;
typedef exports_ashlar_policy_rating_instance_usage_t instance_usage;
typedef exports_ashlar_policy_rating_disk_usage_t disk_usage;
typedef exports_ashlar_policy_rating_other_usage_t other_usage;
typedef exports_ashlar_policy_rating_price_t price;

#include "configuration.h"

/// What `usage.tag` says: which of `usage.val` counts.
#define INSTANCE_RUNNING EXPORTS_ASHLAR_POLICY_RATING_USAGE_INSTANCE_RUNNING
#define INSTANCE_STOPPED EXPORTS_ASHLAR_POLICY_RATING_USAGE_INSTANCE_STOPPED
#define DISK_ALLOCATED EXPORTS_ASHLAR_POLICY_RATING_USAGE_DISK_ALLOCATED

#define SECONDS_PER_HOUR 3600

/// The instance that runs, or is stopped and keeps its virtual CPUs and memory; NULL of any other usage.
const instance_usage *instance_of(const usage *usage);

/// Takes the parameters, first in every call: sets every variable that the others read. If they make no sense, the policy is not loaded.
bool configure(const configuration *configuration, string *error);

/// The currency of the prices: an ISO 4217 code.
string currency(void);

/// The price of what is used for that long. If there is no answer, the built-in price list sets the price.
bool price_of(const usage_interval *interval, struct number *price, string *error);

/// Whether the parameters make sense, and the prices are in this currency.
bool configure_in(const configuration *configuration, string currency, string *error);

/// Reads what a unit of something costs: from 0 to 1,000,000 with at most nine decimal places; in billionths.
bool read_price(string text, uint64_t *billionths);

/// As `read_price`, of a parameter, or of `otherwise` if it is not set.
bool read_price_parameter(const configuration *configuration, const char *name, const char *otherwise, uint64_t *billionths,
    string *error);

/// What that many units cost; false if it is out of range.
bool multiply_price(struct number *quantity, uint64_t billionths);

/// A size in GiB.
struct number gib(uint64_t bytes);

#endif
