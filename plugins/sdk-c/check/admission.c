// An admission policy says the same when it is asked again; refuses in words that can be shown; and amends only what may be amended, to
// what there is.

#include "situation.h"

typedef exports_ashlar_policy_admitting_disk_t disk;

static const char *const ZONES[] = {"zone-a", "zone-b"};
static const char *const CATEGORIES[] = {"cloud_essd", "cloud_efficiency"};
static const char *const TYPES[] = {"ecs.g6.large", "ecs.g6.xlarge", "ecs.c6.4xlarge", "custom"};
static const char *const KEYS[] = {"team", "owner", "env"};
static const char *const VALUES[] = {"v0", "v1", "v2", "v3"};
static const char *const KEPT_KEYS[] = {"acs:", "aliyun"};

static ashlar_list_string_t list_of(const char *const *names, size_t count) {
    ashlar_list_string_t list = {allocate(count, sizeof(string)), count};
    for (size_t i = 0; i < count; i++)
        list.ptr[i] = words(names[i]);
    return list;
}

static bool has(const ashlar_list_string_t *list, string name) {
    for (size_t i = 0; i < list->len; i++)
        if (equal(list->ptr[i], name))
            return true;
    return false;
}

static request make_up_request(struct numbers *numbers) {
    request request = {
        .account = words("default"),
        .instance_type = one_of(numbers, TYPES, COUNT(TYPES)),
        .vcpus = UINT32_C(1) << below(numbers, 8),
        .count = 1 + (uint32_t)below(numbers, 100),
        .image = made_up_id(numbers, "m-"),
        .name = {chance(numbers, 2), words("web")},
        .zone = {chance(numbers, 3), words("zone-a")},
        .spot = chance(numbers, 4),
        .deletion_protection = chance(numbers, 4),
    };
    request.memory = request.vcpus * (1 + below(numbers, 8)) * GIB;
    request.disks.len = below(numbers, 4);
    request.disks.ptr = allocate(request.disks.len, sizeof(disk));
    for (size_t i = 0; i < request.disks.len; i++)
        request.disks.ptr[i] = (disk){words("cloud_essd"), (1 + below(numbers, 4096)) * GIB};
    request.tags.ptr = allocate(COUNT(KEYS), sizeof(tag));
    for (size_t i = 0; i < COUNT(KEYS); i++)
        if (chance(numbers, 2))
            request.tags.ptr[request.tags.len++] = (tag){words(KEYS[i]), one_of(numbers, VALUES, COUNT(VALUES))};
    return request;
}

#define MOST_IN_LABEL 128
#define MOST_LABELS 20

static void check_refused(int seed, string reason, string message) {
    bool is_word = reason.len >= 1 && reason.len <= 64;
    for (size_t i = 0; i < reason.len && is_word; i++) {
        uint8_t c = reason.ptr[i];
        is_word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    }
    EXPECT(is_word, "situation %d: the reason `%.*s` is not of 1 to 64 characters of a-z, 0-9 and -", seed, SHOWN(reason));
    EXPECT(is_sentence(message, 256), "situation %d: `%.*s` is no sentence of 1 to 256 characters", seed, SHOWN(message));
}

static void check_tags(int seed, const request *request, const amendment *amendment) {
    for (size_t i = 0; i < amendment->add_tags.len; i++) {
        string key = amendment->add_tags.ptr[i].key;
        for (size_t there = 0; there < request->tags.len; there++)
            EXPECT(!equal(key, request->tags.ptr[there].key),
                "situation %d: it adds the label `%.*s`, which is there already", seed, SHOWN(key));
        for (size_t other = 0; other < i; other++)
            EXPECT(!equal(key, amendment->add_tags.ptr[other].key), "situation %d: it adds the label `%.*s` twice", seed, SHOWN(key));
        bool is_kept = key.len == 0;
        for (size_t kept = 0; kept < COUNT(KEPT_KEYS); kept++)
            is_kept = is_kept || starts_with(key, words(KEPT_KEYS[kept]));
        EXPECT(!is_kept, "situation %d: it adds the label `%.*s`, whose key may not be used", seed, SHOWN(key));
        string value = amendment->add_tags.ptr[i].value;
        EXPECT(is_sentence(key, MOST_IN_LABEL) && (value.len == 0 || is_sentence(value, MOST_IN_LABEL)),
            "situation %d: the label `%.*s` is no text of up to 128 characters, or its value is none", seed, SHOWN(key));
    }
    size_t labels = request->tags.len + amendment->add_tags.len;
    EXPECT(amendment->add_tags.len == 0 || labels <= MOST_LABELS, "situation %d: with those it adds there are %d labels", seed,
        (int)labels);
}

static void check_amended(int seed, const request *request, const offers *offers, const amendment *amendment) {
    EXPECT(!amendment->name.is_some || !request->name.is_some, "situation %d: it changes the name that was asked for", seed);
    check_tags(seed, request, amendment);
    if (amendment->deletion_protection.is_some) {
        bool is_on = amendment->deletion_protection.val;
        EXPECT(is_on || !request->deletion_protection, "situation %d: it switches deletion protection off", seed);
        EXPECT(!is_on || !request->spot, "situation %d: it protects preemptible instances from deletion", seed);
    }
    if (amendment->disk_category.is_some)
        EXPECT(has(&offers->disk_categories, amendment->disk_category.val),
            "situation %d: it sets the disk category `%.*s`, which there is not", seed, SHOWN(amendment->disk_category.val));
    if (amendment->zone.is_some) {
        EXPECT(!request->zone.is_some, "situation %d: it changes the zone that was asked for", seed);
        EXPECT(has(&offers->zones, amendment->zone.val),
            "situation %d: it sets the zone `%.*s`, which there is not", seed, SHOWN(amendment->zone.val));
    }
}

static uint64_t digest_of(const admission *admission) {
    struct digest digest = new_digest();
    digest_bytes(&digest, &admission->tag, sizeof admission->tag);
    if (admission->tag == EXPORTS_ASHLAR_POLICY_ADMITTING_ADMISSION_REFUSE) {
        digest_string(&digest, admission->val.refuse.reason);
        digest_string(&digest, admission->val.refuse.message);
    } else if (admission->tag == EXPORTS_ASHLAR_POLICY_ADMITTING_ADMISSION_AMEND) {
        const amendment *amendment = &admission->val.amend;
        digest_option(&digest, amendment->name);
        digest_option(&digest, amendment->disk_category);
        digest_option(&digest, amendment->zone);
        int protection = amendment->deletion_protection.is_some ? amendment->deletion_protection.val : -1;
        digest_bytes(&digest, &protection, sizeof protection);
        for (size_t i = 0; i < amendment->add_tags.len; i++) {
            digest_string(&digest, amendment->add_tags.ptr[i].key);
            digest_string(&digest, amendment->add_tags.ptr[i].value);
        }
    }
    return digest.state;
}

bool check_configuration(configuration *parameters, string *error) {
    return exports_ashlar_policy_admitting_check_configuration(parameters, error);
}

uint64_t check_situation(const configuration *parameters, uint64_t seed) {
    int number = (int)seed;
    struct numbers numbers = {seed};
    configuration given = *parameters;
    request request = make_up_request(&numbers);
    holdings holdings = {
        .instances = (uint32_t)below(&numbers, 200),
        .vcpus = (uint32_t)below(&numbers, 2000),
        .memory = below(&numbers, 4000) * GIB,
    };
    offers offers = {list_of(ZONES, COUNT(ZONES)), list_of(CATEGORIES, COUNT(CATEGORIES))};
    admission admission = {0};
    string error = words("");
    bool has_answer = exports_ashlar_policy_admitting_admit(&given, &request, &holdings, &offers, &admission, &error);
    EXPECT(has_answer, "situation %d: it gives no answer: %.*s", number, SHOWN(error));
    EXPECT(admission.tag <= EXPORTS_ASHLAR_POLICY_ADMITTING_ADMISSION_AMEND, "situation %d: its answer is none", number);
    if (admission.tag == EXPORTS_ASHLAR_POLICY_ADMITTING_ADMISSION_REFUSE)
        check_refused(number, admission.val.refuse.reason, admission.val.refuse.message);
    if (admission.tag == EXPORTS_ASHLAR_POLICY_ADMITTING_ADMISSION_AMEND)
        check_amended(number, &request, &offers, &admission.val.amend);
    return digest_of(&admission);
}

void check_all(void) {
}
