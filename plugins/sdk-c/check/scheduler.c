// A scheduler gives every host a verdict, refuses those that cannot hold the instance, and scores the others by numbers in range; says the
// same when it is asked again; places an instance where the highest score is; and says of a table that was updated, or in which an
// instance was booked, what it says of the same table newly loaded.

#include "situation.h"

#include <math.h>
#include <string.h>

#define MOST_HOSTS 40
#define MAX_SCORE 1e15

typedef exports_ashlar_policy_scheduling_list_set_members_t list_set_members;
typedef exports_ashlar_policy_scheduling_list_placement_request_t list_request;
typedef exports_ashlar_policy_scheduling_set_members_t set_members;
typedef exports_ashlar_policy_scheduling_host_changes_t host_changes;
typedef exports_ashlar_policy_scheduling_verdicts_t verdicts;

static const char *const ZONES[] = {"zone-a", "zone-b", "zone-c"};
/// The last is one that no host is in.
static const char *const WANTED_ZONES[] = {"zone-a", "zone-b", "zone-c", "zone-d"};
static const char *const TYPES[] = {"ecs.g6.large", "ecs.g6.xlarge", "ecs.c6.4xlarge", "custom"};
static const uint32_t VCPU_SIZES[] = {0, 4, 16, 64, 128};
static const uint64_t MEMORY_SIZES[] = {0, 8, 64, 512};
static const uint64_t DISK_SIZES[] = {0, 100, 1000};

/// One host, as `host_table` has it by column.
struct row {
    uint64_t memory_total, memory_used, local_disk_total, local_disk_used;
    uint32_t zone, vcpus_total, vcpus_used, instances;
    uint8_t accepting;
};

struct situation {
    int seed;
    configuration parameters;
    struct row rows[MOST_HOSTS];
    size_t count;
    request request;
    list_set_members members;
    uint32_t counts[MOST_HOSTS];
};

static struct row make_up_row(struct numbers *numbers) {
    struct row row = {
        .zone = (uint32_t)below(numbers, COUNT(ZONES)),
        .accepting = !chance(numbers, 8),
        .vcpus_total = VCPU_SIZES[below(numbers, COUNT(VCPU_SIZES))],
        .memory_total = MEMORY_SIZES[below(numbers, COUNT(MEMORY_SIZES))] * GIB,
        .local_disk_total = DISK_SIZES[below(numbers, COUNT(DISK_SIZES))] * GIB,
        .instances = (uint32_t)below(numbers, 40),
    };
    row.vcpus_used = (uint32_t)below(numbers, row.vcpus_total + 1);
    row.memory_used = below(numbers, row.memory_total / GIB + 1) * GIB;
    row.local_disk_used = below(numbers, row.local_disk_total / GIB + 1) * GIB;
    return row;
}

static void make_up_request(struct numbers *numbers, struct situation *of) {
    request *request = &of->request;
    request->instance = made_up_id(numbers, "i-");
    request->instance_type = one_of(numbers, TYPES, COUNT(TYPES));
    request->vcpus = UINT32_C(1) << below(numbers, 6);
    request->memory = request->vcpus * (1 + below(numbers, 4)) * GIB;
    request->local_disk = chance(numbers, 3) ? 50 * GIB : 0;
    request->zone.is_some = chance(numbers, 3);
    request->zone.val = one_of(numbers, WANTED_ZONES, COUNT(WANTED_ZONES));
    request->spot = chance(numbers, 3);
    request->deployment_set.is_some = chance(numbers, 3);
    if (!request->deployment_set.is_some)
        return;
    request->deployment_set.val.id = words("ds-1");
    request->deployment_set.val.max_per_host = 1 + (uint32_t)below(numbers, 3);
    of->members.ptr = allocate(of->count, sizeof(set_members));
    for (size_t host = 0; host < of->count; host++) {
        of->counts[host] = (uint32_t)below(numbers, 4);
        if (of->counts[host] != 0)
            of->members.ptr[of->members.len++] = (set_members){words("ds-1"), (uint32_t)host, of->counts[host]};
    }
}

#define NEW_COLUMN(table, column, count) \
    ((table).column.len = (count), (table).column.ptr = allocate((count), sizeof *(table).column.ptr))
#define EACH_COLUMN(DO) \
    DO(zone) DO(accepting) DO(vcpus_total) DO(vcpus_used) DO(memory_total) DO(memory_used) DO(local_disk_total) \
    DO(local_disk_used) DO(instances)

static host_table table_of(const struct row *rows, size_t count) {
    host_table table = {0};
    NEW_COLUMN(table, zone_names, COUNT(ZONES));
    for (size_t i = 0; i < COUNT(ZONES); i++)
        table.zone_names.ptr[i] = words(ZONES[i]);
#define FILL(column) \
    NEW_COLUMN(table, column, count); \
    for (size_t i = 0; i < count; i++) \
        table.column.ptr[i] = rows[i].column;
    EACH_COLUMN(FILL)
    return table;
}

static void load(struct situation *of, const struct row *rows) {
    host_table table = table_of(rows, of->count);
    string error = words("");
    EXPECT(exports_ashlar_policy_scheduling_load(&of->parameters, &table, &error),
        "situation %d: it does not take the table: %.*s", of->seed, SHOWN(error));
}

static verdicts judged(struct situation *of) {
    verdicts verdicts = {0};
    string error = words("");
    bool has_answer = exports_ashlar_policy_scheduling_filter_and_score(&of->request, &of->members, &verdicts, &error);
    EXPECT(has_answer, "situation %d: it gives no answer: %.*s", of->seed, SHOWN(error));
    EXPECT(verdicts.refused_for.len == of->count && verdicts.score.len == of->count,
        "situation %d: as many verdicts as hosts are needed", of->seed);
    return verdicts;
}

static void check_verdicts(const struct situation *of, const verdicts *verdicts) {
    const struct hosts hosts = {table_of(of->rows, of->count), of->request.deployment_set.is_some ? of->counts : NULL};
    for (size_t host = 0; host < of->count; host++) {
        int shown = (int)host;
        uint8_t number = verdicts->refused_for.ptr[host];
        EXPECT(number <= verdicts->constraints.len, "situation %d: host %d is refused for nothing that has a name", of->seed, shown);
        if (number != 0)
            continue;
        double score = verdicts->score.ptr[host];
        EXPECT(isfinite(score) && fabs(score) <= MAX_SCORE, "situation %d: host %d has the score %g", of->seed, shown, score);
        const char *missed = obstacle(&hosts, host, &of->request);
        EXPECT(missed == NULL, "situation %d: host %d has a score although it does not meet `%s`", of->seed, shown, missed);
    }
}

static ashlar_option_u32_t best_of(const verdicts *verdicts) {
    ashlar_option_u32_t best = {0};
    for (size_t host = 0; host < verdicts->score.len; host++)
        if (verdicts->refused_for.ptr[host] == 0
            && (!best.is_some || verdicts->score.ptr[host] > verdicts->score.ptr[best.val]))
            best = (ashlar_option_u32_t){true, (uint32_t)host};
    return best;
}

static uint64_t digest_of(const verdicts *verdicts) {
    struct digest digest = new_digest();
    for (size_t host = 0; host < verdicts->score.len; host++) {
        uint8_t number = verdicts->refused_for.ptr[host];
        digest_string(&digest, number != 0 ? verdicts->constraints.ptr[number - 1] : words("free"));
        if (number == 0)
            digest_bytes(&digest, &verdicts->score.ptr[host], sizeof(double));
    }
    return digest.state;
}

/// Places the instance; the table then has it booked.
static ashlar_option_u32_t placed(struct situation *of) {
    list_request requests = {&of->request, 1};
    ashlar_list_option_u32_t places = {0};
    string error = words("");
    bool has_answer = exports_ashlar_policy_scheduling_place(&requests, &of->members, &places, &error);
    EXPECT(has_answer, "situation %d: it places nothing: %.*s", of->seed, SHOWN(error));
    EXPECT(places.len == 1, "situation %d: one request has one place", of->seed);
    return places.ptr[0];
}

static void check_place(struct situation *of, const verdicts *verdicts) {
    ashlar_option_u32_t best = best_of(verdicts), place = placed(of);
    EXPECT(place.is_some == best.is_some && (!best.is_some || place.val == best.val),
        "situation %d: it does not place where its highest score is", of->seed);
    if (!place.is_some)
        return;
    struct row booked[MOST_HOSTS];
    memcpy(booked, of->rows, sizeof booked);
    booked[place.val].vcpus_used += of->request.vcpus;
    booked[place.val].memory_used += of->request.memory;
    booked[place.val].local_disk_used += of->request.local_disk;
    booked[place.val].instances++;
    exports_ashlar_policy_scheduling_verdicts_t kept = judged(of);
    load(of, booked);
    exports_ashlar_policy_scheduling_verdicts_t loaded = judged(of);
    EXPECT(digest_of(&kept) == digest_of(&loaded), "situation %d: what it placed is not booked", of->seed);
}

static void check_update(struct situation *of, struct numbers *numbers) {
    host_changes changes = {0};
    NEW_COLUMN(changes, positions, 0);
    struct row rows[MOST_HOSTS];
    memcpy(rows, of->rows, sizeof rows);
    changes.positions.ptr = allocate(of->count, sizeof(uint32_t));
    struct row changed[MOST_HOSTS];
    for (size_t host = 0; host < of->count; host++) {
        if (!chance(numbers, 4))
            continue;
        rows[host] = changed[changes.positions.len] = make_up_row(numbers);
        changes.positions.ptr[changes.positions.len++] = (uint32_t)host;
    }
    host_table columns = table_of(changed, changes.positions.len);
#define TAKE(column) changes.column = columns.column;
    EACH_COLUMN(TAKE)
    load(of, of->rows);
    string error = words("");
    EXPECT(exports_ashlar_policy_scheduling_update(&changes, &error),
        "situation %d: it does not take changes of the table: %.*s", of->seed, SHOWN(error));
    verdicts kept = judged(of);
    load(of, rows);
    verdicts loaded = judged(of);
    EXPECT(digest_of(&kept) == digest_of(&loaded), "situation %d: an updated table is not what it should be", of->seed);
}

bool check_configuration(configuration *parameters, string *error) {
    return exports_ashlar_policy_scheduling_check_configuration(parameters, error);
}

uint64_t check_situation(const configuration *parameters, uint64_t seed) {
    struct numbers numbers = {seed};
    struct situation of = {.seed = (int)seed, .parameters = *parameters, .count = below(&numbers, MOST_HOSTS)};
    for (size_t host = 0; host < of.count; host++)
        of.rows[host] = make_up_row(&numbers);
    make_up_request(&numbers, &of);
    load(&of, of.rows);
    verdicts verdicts = judged(&of);
    check_verdicts(&of, &verdicts);
    uint64_t said = digest_of(&verdicts);
    exports_ashlar_policy_scheduling_verdicts_t again = judged(&of);
    EXPECT(digest_of(&again) == said, "situation %d: asked again, it says something else", of.seed);
    check_place(&of, &verdicts);
    check_update(&of, &numbers);
    return said;
}

void check_all(void) {
}
