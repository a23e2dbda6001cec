// Attacks whoever listens at a path, until it is killed.
//
//     Attacker MODE PATH SEED

#include "attacker.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static const struct {
  const char *name;
  attack *round;
} modes[] = {
  {"requeue", attack_requeue},     {"files", attack_files},         {"descriptors", attack_descriptors},
  {"limits", attack_limits},       {"turns", attack_turns},         {"doorbells", attack_doorbells},
  {"death", attack_death},         {"bytes", attack_bytes},         {"halves", attack_halves},
  {"cargo", attack_cargo},
};

void seed_random(uint64_t seed);

int main(int count, char **arguments) {
  attack *round = NULL;
  for (size_t i = 0; count == 4 && i < sizeof modes / sizeof *modes; i++)
    if (strcmp(arguments[1], modes[i].name) == 0) round = modes[i].round;
  if (round == NULL) {
    fprintf(stderr, "usage: Attacker MODE PATH SEED\nmodes:");
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) fprintf(stderr, " %s", modes[i].name);
    fprintf(stderr, "\n");
    return 64;
  }
  // What it inherited from the victim is not what it attacks.
  closefrom(3);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD, SIG_DFL);
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  seed_random(strtoull(arguments[3], NULL, 10));
  for (;;) {
    round(arguments[2]);
    // A victim that does not listen yet, or has had enough for now.
    pause_microseconds(500);
  }
}
