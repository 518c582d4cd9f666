/* team.c - a persistent team of threads, started by the first call that wants more than one.
 *
 * One call at a time has the team; a call that finds it busy runs its tasks alone, which gives the same bits. The
 * threads sleep on a condition variable between calls, with every signal blocked so that Ctrl-C reaches the caller.
 * A child of fork has none of its parent's threads: it forgets them and starts its own when it needs them. */
#define _GNU_SOURCE /* pthread_sigmask */
#include "lf_impl.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

enum { MOST_THREADS = 256, WAIT_NANOSECONDS = 20 * 1000 * 1000 };

static struct {
    pthread_mutex_t owner; /* held by the call that has the team; guards `threads` */
    pthread_mutex_t lock;  /* guards all below */
    pthread_cond_t work, done;
    int threads; /* started, beside the callers */
    long forks;  /* between this process and the one that loaded the engine */
    long round;  /* counts calls, so that a thread joins each once */
    int next, n; /* tasks of this round: the next one to take, and how many */
    int unfinished;
    void (*task)(void *context, int i);
    void *context;
} team = {.owner = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

/* Takes tasks until none is left; called and left with the lock held. */
static void take_tasks(void) {
    while (team.next < team.n) {
        const int i = team.next++;
        pthread_mutex_unlock(&team.lock);
        team.task(team.context, i);
        pthread_mutex_lock(&team.lock);
        if (--team.unfinished == 0)
            pthread_cond_signal(&team.done);
    }
}

static void *serve(void *unused) {
    (void)unused;
    pthread_mutex_lock(&team.lock);
    for (long seen = 0;;) {
        while (team.round == seen)
            pthread_cond_wait(&team.work, &team.lock);
        seen = team.round;
        take_tasks();
    }
    return NULL;
}

static void forget_after_fork(void) {
    pthread_mutex_init(&team.owner, NULL);
    pthread_mutex_init(&team.lock, NULL);
    pthread_cond_init(&team.work, NULL);
    pthread_cond_init(&team.done, NULL);
    team.threads = 0;
    team.next = team.n = 0;
    team.forks++;
}

static void register_fork_handler(void) { pthread_atfork(NULL, NULL, forget_after_fork); }

/* As many as can be had: a thread refused by the system only makes the call slower. */
static void start_threads(int wanted) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_fork_handler);
    sigset_t all, saved;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &saved);
    pthread_t thread;
    while (team.threads < wanted && team.threads < MOST_THREADS && pthread_create(&thread, NULL, serve, NULL) == 0) {
        pthread_detach(thread);
        team.threads++;
    }
    pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

static void run_alone(int n, void (*task)(void *context, int i), void *context) {
    for (int i = 0; i < n; i++)
        task(context, i);
}

/* Waits a while for the last task; called and left with the lock held. */
static void wait_a_while(void) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += WAIT_NANOSECONDS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&team.done, &team.lock, &until);
}

void lf_team_run(int n, void (*task)(void *context, int i), void (*waiting)(void *context), void *context) {
    if (pthread_mutex_trylock(&team.owner) != 0) {
        run_alone(n, task, context);
        return;
    }
    start_threads(n - 1);
    pthread_mutex_lock(&team.lock);
    const long forks = team.forks;
    team.task = task;
    team.context = context;
    team.next = 0;
    team.n = team.unfinished = n;
    team.round++;
    pthread_cond_broadcast(&team.work);
    take_tasks();
    while (team.unfinished && team.forks == forks) {
        wait_a_while();
        pthread_mutex_unlock(&team.lock);
        waiting(context);
        pthread_mutex_lock(&team.lock);
    }
    const int forked = team.forks != forks; /* by a task or waiting(): a child without the other threads */
    pthread_mutex_unlock(&team.lock);
    if (forked)
        run_alone(n, task, context);
    else
        pthread_mutex_unlock(&team.owner);
}
