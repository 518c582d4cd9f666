/* team.h - threads that run one call together. */
#ifndef LF_TEAM_H
#define LF_TEAM_H

#include "lf_memory.h"

#include <stdint.h>

enum { LF_MOST_MEMBERS = 256 };

/* Where `size` members of a gang wait for one another; each arrives on a cache line of its own. */
typedef struct {
    int size;
    uint32_t sleeping;
    int64_t stop_at; /* call.c: from which poll on the gang stops */
    struct {
        _Alignas(LF_ALIGN) uint32_t arrivals;
    } member[LF_MOST_MEMBERS];
} lf_gang;

void lf_gang_init(lf_gang *gang, int size);

/* Returns when every member has called it as often as this one. What they wrote before is then visible. */
void lf_gang_sync(lf_gang *gang, int member);

typedef struct {
    void (*begin)(void *context, int members); /* by the caller, before anyone runs */
    void (*run)(void *context, int member);
    void (*waiting)(void *context); /* by the caller, now and then, while others still run */
    void *context;
} lf_job;

/* Runs the job on every member at once, the caller being member 0, and returns when all are done. There are at most
 * `most` members, and fewer where threads of the team do not answer within `patience` nanoseconds or another call has
 * the team. Returns 0 in a child of fork whose parent was inside this call: the other members are not there. */
int lf_team_run(int most, int64_t patience, const lf_job *job);

/* Nanoseconds that a spinning thread of the team lately took to answer a call, or 0 where this is not known. It tells
 * how far its CPU is. */
int64_t lf_team_answer(void);

/* Forks between this process and the one that loaded the engine; changes under a job that may fork. */
long lf_team_forks(void);

#endif
