// What an instance keeps between calls, and its answers:
//
//     load ─► ( update | filter-and-score | place )*

#include "policy.h"

#include <string.h>

typedef exports_ashlar_policy_scheduling_list_parameter_t list_parameter;
typedef exports_ashlar_policy_scheduling_list_placement_request_t list_request;
typedef exports_ashlar_policy_scheduling_list_set_members_t list_set_members;
typedef exports_ashlar_policy_scheduling_host_changes_t host_changes;
typedef exports_ashlar_policy_scheduling_verdicts_t verdicts;

/// What has an item for each host.
#define EACH_COLUMN(DO) \
    DO(zone) DO(accepting) DO(vcpus_total) DO(vcpus_used) DO(memory_total) DO(memory_used) DO(local_disk_total) \
    DO(local_disk_used) DO(instances)

/// What the last `load` left.
static bool is_loaded;
static configuration parameters;
static struct hosts hosts;

/// Where it is. A larger table gets twice what it needs, so that however often tables are loaded, little is left behind.
static struct { uint8_t *start, *next; size_t size; } room;

#define ALIGNMENT 8
#define ROUNDED(size) (((size) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)
#define SIZE(list) ROUNDED((list).len * sizeof *(list).ptr)

static size_t size_of_strings(const ashlar_list_string_t *list) {
    size_t size = SIZE(*list);
    for (size_t i = 0; i < list->len; i++)
        size += ROUNDED(list->ptr[i].len);
    return size;
}

static size_t size_of_parameters(const configuration *list) {
    size_t size = SIZE(*list);
    for (size_t i = 0; i < list->len; i++)
        size += ROUNDED(list->ptr[i].name.len) + ROUNDED(list->ptr[i].value.len);
    return size;
}

static void make_room(size_t size) {
    if (size > room.size) {
        room.size = 2 * size;
        room.start = allocate(room.size, 1);
        keep_memory();
    }
    room.next = room.start;
}

static void *kept(const void *from, size_t size) {
    uint8_t *place = room.next;
    if (size != 0)
        memcpy(place, from, size);
    room.next += ROUNDED(size);
    return place;
}

#define KEEP(list) ((list).ptr = kept((list).ptr, (list).len * sizeof *(list).ptr))

static void keep(const configuration *given, const host_table *table) {
    size_t size = size_of_parameters(given) + size_of_strings(&table->zone_names);
#define ADD(column) size += SIZE(table->column);
    EACH_COLUMN(ADD)
    make_room(size);
    parameters = *given;
    KEEP(parameters);
    for (size_t i = 0; i < parameters.len; i++) {
        KEEP(parameters.ptr[i].name);
        KEEP(parameters.ptr[i].value);
    }
    hosts = (struct hosts){.table = *table};
    KEEP(hosts.table.zone_names);
    for (size_t i = 0; i < hosts.table.zone_names.len; i++)
        KEEP(hosts.table.zone_names.ptr[i]);
#define KEEP_COLUMN(column) KEEP(hosts.table.column);
    EACH_COLUMN(KEEP_COLUMN)
}

static bool check_loaded(string *error) {
    return is_loaded || fail(error, words("no table is loaded"));
}

/// How many members of the request's set are on each host: those that the host program names, and those booked in this call.
static void count_members(const request *request, const list_set_members *members, uint32_t *counts) {
    hosts.set_members = NULL;
    if (!request->deployment_set.is_some)
        return;
    size_t count = hosts.table.zone.len;
    for (size_t host = 0; host < count; host++)
        counts[host] = 0;
    for (size_t i = 0; i < members->len; i++)
        if (members->ptr[i].position < count && equal(members->ptr[i].set, request->deployment_set.val.id))
            counts[members->ptr[i].position] += members->ptr[i].members;
    hosts.set_members = counts;
}

/// The number that stands for a constraint in these verdicts.
static bool number_of(const char *constraint, verdicts *verdicts, uint8_t *number, string *error) {
    ashlar_list_string_t *names = &verdicts->constraints;
    size_t known = 0;
    while (known < names->len && !equal(names->ptr[known], words(constraint)))
        known++;
    if (known == UINT8_MAX)
        return fail(error, words("more than 255 different constraints"));
    if (known == names->len)
        names->ptr[names->len++] = words(constraint);
    *number = (uint8_t)(known + 1);
    return true;
}

static bool filter_and_score(const request *request, const list_set_members *members, verdicts *verdicts, string *error) {
    size_t count = hosts.table.zone.len;
    *verdicts = (exports_ashlar_policy_scheduling_verdicts_t){
        .constraints = {allocate(UINT8_MAX, sizeof(string)), 0},
        .refused_for = {allocate(count, sizeof(uint8_t)), count},
        .score = {allocate(count, sizeof(double)), count},
    };
    count_members(request, members, allocate(count, sizeof(uint32_t)));
    for (size_t host = 0; host < count; host++) {
        struct verdict verdict = {0};
        if (!judge(request, &hosts, host, &verdict, error))
            return false;
        verdicts->refused_for.ptr[host] = 0;
        verdicts->score.ptr[host] = verdict.refused_for == NULL ? verdict.score : 0;
        if (verdict.refused_for != NULL
            && !number_of(verdict.refused_for, verdicts, &verdicts->refused_for.ptr[host], error))
            return false;
    }
    return true;
}

/// The highest score, and of equals the lowest position.
static bool find_best(const request *request, ashlar_option_u32_t *best, string *error) {
    double highest = 0;
    best->is_some = false;
    for (size_t host = 0; host < hosts.table.zone.len; host++) {
        struct verdict verdict = {0};
        if (!judge(request, &hosts, host, &verdict, error))
            return false;
        if (verdict.refused_for != NULL || (best->is_some && verdict.score <= highest))
            continue;
        *best = (ashlar_option_u32_t){true, (uint32_t)host};
        highest = verdict.score;
    }
    return true;
}

#define GROW(used, by) ((used) = (used) + (by) < (used) ? (__typeof__(used))-1 : (used) + (by))

static void book(uint32_t host, const request *request) {
    GROW(hosts.table.vcpus_used.ptr[host], request->vcpus);
    GROW(hosts.table.memory_used.ptr[host], request->memory);
    GROW(hosts.table.local_disk_used.ptr[host], request->local_disk);
    GROW(hosts.table.instances.ptr[host], 1);
}

static bool place(const list_request *requests, const list_set_members *given, ashlar_list_option_u32_t *places, string *error) {
    places->len = requests->len;
    places->ptr = allocate(places->len, sizeof *places->ptr);
    uint32_t *counts = allocate(hosts.table.zone.len, sizeof *counts);
    // Those that are given, and one for each that is placed.
    list_set_members members = {allocate(given->len + requests->len, sizeof *members.ptr), given->len};
    for (size_t i = 0; i < given->len; i++)
        members.ptr[i] = given->ptr[i];
    for (size_t i = 0; i < requests->len; i++) {
        const request *asked = &requests->ptr[i];
        count_members(asked, &members, counts);
        ashlar_option_u32_t *best = &places->ptr[i];
        if (!find_best(asked, best, error))
            return false;
        if (!best->is_some)
            continue;
        book(best->val, asked);
        if (asked->deployment_set.is_some)
            members.ptr[members.len++] = (exports_ashlar_policy_scheduling_set_members_t){
                asked->deployment_set.val.id, best->val, 1};
    }
    return true;
}

bool exports_ashlar_policy_scheduling_check_configuration(list_parameter *given, string *error) {
    bool is_good = configure(given, error);
    string ignored;
    // What is loaded has the parameters that it was loaded with.
    if (is_loaded)
        is_loaded = configure(&parameters, &ignored);
    release_memory();
    return is_good;
}

bool exports_ashlar_policy_scheduling_load(list_parameter *given, host_table *table, string *error) {
    keep(given, table);
    is_loaded = configure(&parameters, error);
    release_memory();
    return is_loaded;
}

bool exports_ashlar_policy_scheduling_update(host_changes *changes, string *error) {
    bool is_good = check_loaded(error);
    for (size_t i = 0; i < changes->positions.len && is_good; i++) {
        uint32_t host = changes->positions.ptr[i];
        if (host >= hosts.table.zone.len) {
            is_good = fail(error, JOIN(words("no host is at position "), digits(host)));
            break;
        }
#define SET(column) hosts.table.column.ptr[host] = changes->column.ptr[i];
        EACH_COLUMN(SET)
    }
    release_memory();
    return is_good;
}

bool exports_ashlar_policy_scheduling_filter_and_score(request *request, list_set_members *members, verdicts *verdicts,
    string *error) {
    bool is_good = check_loaded(error) && filter_and_score(request, members, verdicts, error);
    release_memory();
    return is_good;
}

bool exports_ashlar_policy_scheduling_place(list_request *requests, list_set_members *members, ashlar_list_option_u32_t *places,
    string *error) {
    bool is_good = check_loaded(error) && place(requests, members, places, error);
    release_memory();
    return is_good;
}
