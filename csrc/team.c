/* team.c - a persistent team of threads, started by the first call that wants more than one.
 *
 * Every thread has a seat. The caller offers its job to as many as it wants, and those that join in time make up the
 * gang with it: a thread that sleeps too deeply, or has died, costs some speed and nothing else. Whoever waits spins
 * for a while and then sleeps on a futex. One call at a time has the team; one that finds it busy runs alone, which
 * gives the same bits. Signals are blocked in the threads, so that Ctrl-C reaches the caller. A child of fork has none
 * of its parent's threads: it forgets them and starts its own when it needs them. */
#define _GNU_SOURCE /* syscall, pthread_sigmask, CPU sets */
#include "team.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SPIN = 200 * 1000,          /* nanoseconds: a sleeper takes 50 to 100 µs to wake */
    ALONE = 2 * 1000,           /* of them, before it gives way */
    NAP = 5 * 1000 * 1000,      /* between two calls of waiting(), and at a meeting */
    LOOKS = 16,                 /* at a word, between two at the clock */
    FOREVER = INT_MAX,          /* of a futex */
    ANSWERS = 8,                /* of so many the quickest counts, for others were disturbed */
    RECENT = 100 * 1000 * 1000, /* and for so long: CPUs that are rented move */
    CROWDED = 100 * 1000 * 1000,
    REST = 1000 * 1000 * 1000
};

enum { IDLE, OFFERED, JOINED, RUNNING };

typedef struct {
    _Alignas(LF_ALIGN) uint32_t state;
    uint32_t sleeping;
    int member;
    int cpu; /* where its thread last was when it was offered a job */
} lf_seat;

static struct {
    pthread_mutex_t owner; /* held by the call that has the team; guards all below */
    int threads;           /* started, beside the callers */
    long forks;
    const lf_job *job;
    int cpu;                               /* of the caller */
    int64_t crowded;                       /* nanoseconds of calls in a row that waited as long as they worked */
    int64_t rest_until;                    /* because of that */
    int64_t answers[ANSWERS], num_answers; /* nanoseconds; since there was a pause in them */
    int64_t answer, answer_until;          /* the quickest, or 0; read without the lock */
    lf_seat seats[LF_MOST_MEMBERS - 1];
} team = {.owner = PTHREAD_MUTEX_INITIALIZER};

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void futex_wait(uint32_t *word, uint32_t value, int nanoseconds) {
    const struct timespec nap = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, nanoseconds == FOREVER ? NULL : &nap, NULL, 0);
}

static void futex_wake(uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0); }

/* Sequentially consistent, as is the look at the word by those who go to sleep: one of the two sees the other. */
static void put(uint32_t *word, uint32_t value, uint32_t *sleeping) {
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(sleeping, __ATOMIC_SEQ_CST))
        futex_wake(word);
}

/* Of this thread: nanoseconds that it has given way to others or slept, while it had nothing to do but wait; how many
 * times it had to; how many meetings it was at. */
typedef struct {
    int64_t waited, delays, meetings;
} experience;

static _Thread_local experience so_far;

/* Spins while the word is `value`, for `nanoseconds` at most; whether it has changed. Soon it gives way to others: the
 * one it waits for may be waiting for this very CPU. */
static int spin(const uint32_t *word, uint32_t value, int64_t nanoseconds) {
    int gave_way = 0;
    for (int64_t begin = 0;;) {
        for (int look = 0; look < LOOKS; look++) {
            if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value)
                return 1;
            pause_briefly();
        }
        const int64_t at = now();
        begin = begin ? begin : at;
        if (at - begin >= nanoseconds)
            return 0;
        if (at - begin >= ALONE) {
            so_far.delays += !gave_way;
            gave_way = 1;
            sched_yield();
            so_far.waited += now() - at;
        }
    }
}

/* Waits while the word is `value`: spins, then sleeps for `nanoseconds` at most, or FOREVER. */
static void wait_while(uint32_t *word, uint32_t value, uint32_t *sleeping, int nanoseconds) {
    if (spin(word, value, SPIN))
        return;
    const int64_t begin = now();
    __atomic_add_fetch(sleeping, 1, __ATOMIC_SEQ_CST);
    do
        if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == value)
            futex_wait(word, value, nanoseconds);
    while (nanoseconds == FOREVER && __atomic_load_n(word, __ATOMIC_SEQ_CST) == value);
    __atomic_sub_fetch(sleeping, 1, __ATOMIC_SEQ_CST);
    so_far.waited += now() - begin;
}

void lf_gang_init(lf_gang *gang, int size) {
    gang->size = size;
    gang->sleeping = 0;
    gang->stop_at = INT64_MAX;
    for (int i = 0; i < size; i++)
        gang->member[i].arrivals = 0;
}

/* No fence between telling and looking for sleepers, for it would cost as much as all the rest: who falls asleep at
 * that very moment is missed, and finds out after its nap. */
void lf_gang_sync(lf_gang *gang, int member) {
    if (gang->size == 1)
        return;
    so_far.meetings++;
    uint32_t *own = &gang->member[member].arrivals;
    const uint32_t before = *own;
    __atomic_store_n(own, before + 1, __ATOMIC_RELEASE);
    if (__atomic_load_n(&gang->sleeping, __ATOMIC_RELAXED))
        futex_wake(own);
    for (int other = 0; other < gang->size; other++) {
        uint32_t *arrivals = &gang->member[other].arrivals;
        while (other != member && __atomic_load_n(arrivals, __ATOMIC_ACQUIRE) == before)
            wait_while(arrivals, before, &gang->sleeping, NAP);
    }
}

/* Whether the caller, or the thread of a seat before this one, is on that CPU. */
static int is_taken(int cpu, const lf_seat *seat) {
    int taken = cpu == __atomic_load_n(&team.cpu, __ATOMIC_RELAXED);
    for (const lf_seat *other = team.seats; other < seat && !taken; other++)
        taken = cpu == __atomic_load_n(&other->cpu, __ATOMIC_RELAXED);
    return taken;
}

/* Gives this thread back the CPUs it had. If that is all its cpuset has, it asks for any: the kernel would hold it to a
 * list of them even when the cpuset grows. */
static void set_free(const cpu_set_t *allowed) {
    cpu_set_t all, granted;
    memset(&all, 0xff, sizeof all);
    if (sched_setaffinity(0, sizeof all, &all) != 0 || sched_getaffinity(0, sizeof granted, &granted) != 0 ||
        !CPU_EQUAL(&granted, allowed))
        sched_setaffinity(0, sizeof *allowed, allowed);
}

/* A thread that woke up on the CPU of another member leaves it. The scheduler may let tens of milliseconds pass before
 * it parts them, and until then every meeting costs a turn of it. */
static void keep_apart(lf_seat *seat) {
    cpu_set_t allowed, others;
    if (is_taken(sched_getcpu(), seat) && sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
        others = allowed;
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &allowed) && is_taken(cpu, seat))
                CPU_CLR(cpu, &others);
        if (CPU_COUNT(&others) && sched_setaffinity(0, sizeof others, &others) == 0)
            set_free(&allowed);
    }
    __atomic_store_n(&seat->cpu, sched_getcpu(), __ATOMIC_RELAXED);
}

static void *serve(void *argument) {
    lf_seat *seat = argument;
    for (;;) {
        wait_while(&seat->state, IDLE, &seat->sleeping, FOREVER);
        keep_apart(seat);
        uint32_t offered = OFFERED;
        if (!__atomic_compare_exchange_n(&seat->state, &offered, JOINED, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            continue;
        wait_while(&seat->state, JOINED, &seat->sleeping, FOREVER);
        team.job->run(team.job->context, seat->member);
        put(&seat->state, IDLE, &seat->sleeping);
    }
    return NULL;
}

static void forget_after_fork(void) {
    pthread_mutex_init(&team.owner, NULL);
    team.threads = 0;
    team.crowded = 0;
    team.answer_until = 0;
    team.forks++;
    for (int i = 0; i < LF_MOST_MEMBERS - 1; i++)
        team.seats[i] = (lf_seat){.state = IDLE};
}

long lf_team_forks(void) { return team.forks; }

static void register_fork_handler(void) { pthread_atfork(NULL, NULL, forget_after_fork); }

/* As many as can be had: a thread refused by the system only makes the call slower. */
static void start_threads(int wanted) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handler);
    sigset_t all, saved;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    pthread_t thread;
    while (team.threads < wanted) {
        lf_seat *seat = &team.seats[team.threads];
        seat->cpu = -1;
        if (pthread_create(&thread, NULL, serve, seat) != 0)
            break;
        pthread_detach(thread);
        team.threads++;
    }
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

static void notice_answer(int64_t taken, int64_t at) {
    if (at > team.answer_until)
        team.num_answers = 0;
    team.answers[team.num_answers++ % ANSWERS] = taken;
    int64_t quickest = team.num_answers < ANSWERS ? 0 : taken;
    for (int i = 0; i < ANSWERS && quickest; i++)
        quickest = team.answers[i] < quickest ? team.answers[i] : quickest;
    __atomic_store_n(&team.answer, quickest, __ATOMIC_RELAXED);
    __atomic_store_n(&team.answer_until, at + RECENT, __ATOMIC_RELAXED);
}

int64_t lf_team_answer(void) {
    const int64_t until = __atomic_load_n(&team.answer_until, __ATOMIC_RELAXED);
    return until && now() < until ? __atomic_load_n(&team.answer, __ATOMIC_RELAXED) : 0;
}

static int has_joined_before(const lf_seat *seat) { return __atomic_load_n(&seat->cpu, __ATOMIC_RELAXED) >= 0; }

static int is_asleep(const lf_seat *seat) { return __atomic_load_n(&seat->sleeping, __ATOMIC_RELAXED) != 0; }

/* Offers the job to `wanted` seats; how many have joined when patience ends. They wait to be told their numbers. The
 * first seat, asked last, tells how quick an answer is: where its thread is neither new nor asleep. */
static int gather(int wanted, int64_t patience) {
    if (wanted == 0)
        return 0;
    const int64_t end = now() + patience;
    __atomic_store_n(&team.cpu, sched_getcpu(), __ATOMIC_RELAXED);
    for (int i = wanted - 1; i > 0; i--)
        put(&team.seats[i].state, OFFERED, &team.seats[i].sleeping);
    lf_seat *first = &team.seats[0];
    const int spins = has_joined_before(first) && !is_asleep(first);
    const int64_t asked = now();
    put(&first->state, OFFERED, &first->sleeping);
    int joined = 0;
    for (int i = 0; i < wanted; i++) {
        lf_seat *seat = &team.seats[i];
        const int64_t left = end - now();
        uint32_t offered = OFFERED;
        if (spin(&seat->state, OFFERED, left > 0 ? left : 0) ||
            !__atomic_compare_exchange_n(&seat->state, &offered, IDLE, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
            seat->member = ++joined;
        else
            seat->member = 0;
        if (i == 0 && spins && seat->member) {
            const int64_t at = now();
            notice_answer(at - asked, at);
        }
    }
    return joined;
}

static void start_members(int offered) {
    for (int i = 0; i < offered; i++)
        if (team.seats[i].member)
            put(&team.seats[i].state, RUNNING, &team.seats[i].sleeping);
}

static int is_running(const lf_seat *seat) {
    return seat->member && __atomic_load_n(&seat->state, __ATOMIC_ACQUIRE) == RUNNING;
}

/* Returns early in a child of fork, where nobody is left to wait for. */
static void await_members(int offered, long forks) {
    for (int i = 0; i < offered; i++)
        while (team.forks == forks && is_running(&team.seats[i])) {
            wait_while(&team.seats[i].state, RUNNING, &team.seats[i].sleeping, NAP);
            if (is_running(&team.seats[i]))
                team.job->waiting(team.job->context);
        }
}

static int run_alone(const lf_job *job) {
    job->begin(job->context, 1);
    job->run(job->context, 0);
    return 1;
}

/* Where members share a CPU, because others are busy on the rest, every meeting costs a turn of the scheduler. Once all
 * calls have been like that for a while, the next ones run alone for a longer while. A few such calls are left to
 * themselves: members that sleep meanwhile may wake up no better placed. */
static void notice_crowds(int64_t end, int64_t taken, const experience *before) {
    const int long_waits = (so_far.waited - before->waited) * 9 > taken * 4;
    const int often = (so_far.delays - before->delays) * 2 > so_far.meetings - before->meetings;
    team.crowded = long_waits && often ? team.crowded + taken : 0;
    if (team.crowded > CROWDED) {
        team.crowded = CROWDED;
        team.rest_until = end + REST;
    }
}

int lf_team_run(int most, int64_t patience, const lf_job *job) {
    if (most < 2 || pthread_mutex_trylock(&team.owner) != 0)
        return run_alone(job);
    if (team.crowded && now() < team.rest_until) {
        pthread_mutex_unlock(&team.owner);
        return run_alone(job);
    }
    const long forks = team.forks;
    start_threads(most - 1);
    const int offered = most - 1 < team.threads ? most - 1 : team.threads;
    team.job = job;
    job->begin(job->context, 1 + gather(offered, patience));
    start_members(offered);
    const int64_t begin = now();
    const experience before = so_far;
    job->run(job->context, 0);
    await_members(offered, forks);
    if (team.forks != forks) /* the lock is a new one, and nobody's */
        return 0;
    const int64_t end = now();
    notice_crowds(end, end - begin, &before);
    pthread_mutex_unlock(&team.owner);
    return 1;
}
