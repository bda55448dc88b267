#include "policy.h"

admission admitted(void) {
    return (admission){.tag = EXPORTS_ASHLAR_POLICY_ADMITTING_ADMISSION_ADMIT};
}

admission refused(const char *reason, string message) {
    return (admission){
        .tag = EXPORTS_ASHLAR_POLICY_ADMITTING_ADMISSION_REFUSE,
        .val.refuse = {words(reason), message},
    };
}

admission amended(amendment amendment) {
    return (admission){.tag = EXPORTS_ASHLAR_POLICY_ADMITTING_ADMISSION_AMEND, .val.amend = amendment};
}

const string *tag_of(const request *request, const char *key) {
    for (size_t i = 0; i < request->tags.len; i++)
        if (equal(request->tags.ptr[i].key, words(key)))
            return &request->tags.ptr[i].value;
    return NULL;
}

bool exports_ashlar_policy_admitting_check_configuration(configuration *configuration, string *error) {
    return configure(configuration, error);
}

bool exports_ashlar_policy_admitting_admit(configuration *configuration, request *request, holdings *holdings, offers *offers,
    admission *admission, string *error) {
    return configure(configuration, error) && admit(request, holdings, offers, admission, error);
}
