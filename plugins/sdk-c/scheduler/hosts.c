#include "policy.h"

uint32_t vcpus_free(const struct hosts *hosts, size_t host) {
    uint32_t total = hosts->table.vcpus_total.ptr[host], used = hosts->table.vcpus_used.ptr[host];
    return total > used ? total - used : 0;
}

uint64_t memory_free(const struct hosts *hosts, size_t host) {
    uint64_t total = hosts->table.memory_total.ptr[host], used = hosts->table.memory_used.ptr[host];
    return total > used ? total - used : 0;
}

uint64_t local_disk_free(const struct hosts *hosts, size_t host) {
    uint64_t total = hosts->table.local_disk_total.ptr[host], used = hosts->table.local_disk_used.ptr[host];
    return total > used ? total - used : 0;
}

static bool is_in(const struct hosts *hosts, size_t host, string zone) {
    uint32_t position = hosts->table.zone.ptr[host];
    return position < hosts->table.zone_names.len && equal(hosts->table.zone_names.ptr[position], zone);
}

const char *obstacle(const struct hosts *hosts, size_t host, const request *request) {
    if (hosts->table.accepting.ptr[host] == 0)
        return NOT_ACCEPTING;
    if (request->zone.is_some && !is_in(hosts, host, request->zone.val))
        return ZONE;
    if (vcpus_free(hosts, host) < request->vcpus)
        return VCPUS;
    if (memory_free(hosts, host) < request->memory)
        return MEMORY;
    if (local_disk_free(hosts, host) < request->local_disk)
        return LOCAL_DISK;
    if (request->deployment_set.is_some && hosts->set_members != NULL
        && hosts->set_members[host] >= request->deployment_set.val.max_per_host)
        return DEPLOYMENT_SET;
    return NULL;
}

struct verdict refused(const char *constraint) {
    return (struct verdict){.refused_for = constraint};
}

struct verdict scored(double score) {
    return (struct verdict){.score = score};
}
