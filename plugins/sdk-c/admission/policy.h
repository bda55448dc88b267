// A policy that decides which requests are let in. It defines `configure` and `admit`.
//
// A function that can fail returns whether it went well; `error` then says why not, in a sentence for the operator.

#ifndef POLICY_H
#define POLICY_H

#include "memory.h"
#include "text.h"

typedef exports_ashlar_policy_admitting_parameter_t parameter;
typedef exports_ashlar_policy_admitting_list_parameter_t configuration;
typedef exports_ashlar_policy_admitting_instances_request_t request;
typedef exports_ashlar_policy_admitting_holdings_t holdings;
typedef exports_ashlar_policy_admitting_offers_t offers;
typedef exports_ashlar_policy_admitting_amendment_t amendment;
typedef exports_ashlar_policy_admitting_admission_t admission;
typedef exports_ashlar_policy_admitting_tag_t tag;

#include "configuration.h"

/// Takes the parameters, first in every call: sets every variable that `admit` reads. If they make no sense, the policy is not loaded.
bool configure(const configuration *configuration, string *error);

/// What becomes of a request of an account that has `holdings` already. If there is no answer, it is let in as it is.
bool admit(const request *request, const holdings *holdings, const offers *offers, admission *admission, string *error);

/// It is let in as it is.
admission admitted(void);

/// It is not; the reason as one word for programs, of `a-z`, `0-9` and `-`, and as a sentence for the customer.
admission refused(const char *reason, string message);

/// It is let in as this; what is zero in an amendment stays as it was asked for.
admission amended(amendment amendment);

/// The value of a label of the request; NULL if it has none of that key.
const string *tag_of(const request *request, const char *key);

#endif
