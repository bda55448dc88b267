// A policy that decides where instances go. It defines `configure` and `judge`; the rest is here: the table of hosts, which is kept and
// kept up to date, bookings, and the members of deployment sets.
//
// A function that can fail returns whether it went well; `error` then says why not, in a sentence for the operator.

#ifndef POLICY_H
#define POLICY_H

#include "memory.h"
#include "text.h"

typedef exports_ashlar_policy_scheduling_parameter_t parameter;
typedef exports_ashlar_policy_scheduling_list_parameter_t configuration;
typedef exports_ashlar_policy_scheduling_placement_request_t request;
typedef exports_ashlar_policy_scheduling_host_table_t host_table;

#include "configuration.h"

/// The names of the constraints that the host program knows.
#define NOT_ACCEPTING "not-accepting"
#define ZONE "zone"
#define VCPUS "vcpus"
#define MEMORY "memory"
#define LOCAL_DISK "local-disk"
#define DEPLOYMENT_SET "deployment-set"

/// The hosts there are, by column: position n of every list is the same host. Memory and disk are in bytes.
struct hosts {
    host_table table;
    /// Members of the request's deployment set on each host; NULL if the request names no set.
    const uint32_t *set_members;
};

/// What a policy says about one host.
struct verdict {
    /// The name of the constraint it is refused for, one of those above or the policy's own; NULL if it is not refused.
    const char *refused_for;
    /// How good the place is: finite, within ±1e15, the highest wins.
    double score;
};

/// Takes the parameters, which last as long as what was loaded with them: sets every variable that `judge` reads. If they make no sense,
/// the policy is not loaded.
bool configure(const configuration *configuration, string *error);

/// What is to be said of one host. If there is no answer, the built-in policy decides.
bool judge(const request *request, const struct hosts *hosts, size_t host, struct verdict *verdict, string *error);

/// Not taken of a host's vCPUs.
uint32_t vcpus_free(const struct hosts *hosts, size_t host);

/// Not taken of its memory, in bytes.
uint64_t memory_free(const struct hosts *hosts, size_t host);

/// Not taken of its local disk, in bytes.
uint64_t local_disk_free(const struct hosts *hosts, size_t host);

/// The first of the conditions every policy must keep that a host does not meet; NULL if it meets all of them.
const char *obstacle(const struct hosts *hosts, size_t host, const request *request);

/// Of a host that is refused for that constraint.
struct verdict refused(const char *constraint);

/// Of a host with that score.
struct verdict scored(double score);

#endif
