#include "cli/interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

static atomic_int noted, times;
static _Atomic(const char *) half_written;

static void catch_with(void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static void note(int signal) { atomic_store(&noted, signal); }

void interrupt_note(void)
{
    /* Reset after the first: the second one has its usual effect even when we hang. A call that
     * waits for input is cut short, not resumed. */
    catch_with(note, (int)SA_RESETHAND);
}

static void listen_to(int signal)
{
    enum { PATIENCE = 3 };
    atomic_store(&noted, signal);
    if (atomic_fetch_add(&times, 1) + 1 < PATIENCE) return;
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigaction(signal, &usual, NULL);
    kill(getpid(), signal);
}

void interrupt_listen(void)
{
    /* Reading a line is cut short, not resumed. */
    struct sigaction action = {.sa_handler = listen_to};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
}

void interrupt_forget(void)
{
    atomic_store(&noted, 0);
    atomic_store(&times, 0);
}

int interrupt_noted(void) { return atomic_load(&noted); }

void interrupt_hold(bool hold)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* Sends itself the signal again, so that whoever started us sees what ended us. */
static void clean_up(int signal)
{
    const char *path = atomic_load(&half_written);
    if (path) unlink(path);
    kill(getpid(), signal);
}

void interrupt_remove(const char *path)
{
    atomic_store(&half_written, path);
    catch_with(path ? clean_up : SIG_DFL, (int)SA_RESETHAND);
}
