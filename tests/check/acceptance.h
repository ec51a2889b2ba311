/* acceptance.h: the founding behaviours, one row each. */
#ifndef CHECK_ACCEPTANCE_H
#define CHECK_ACCEPTANCE_H

/* Prints "ID status test" for every row; 1 when one fails, otherwise 0. */
int acceptance_run(void);

#endif
