/* mutant.h: the founding bugs, kept alive to prove that the tests would see them.
 *
 * The library is built with 0. Test objects of single files are built with -DGDN_MUTANT=n, and the
 * suite must fail for each:
 *   1 the state is rounded through bf16
 *   2 one shared validation for conv and delta state, which zeroes both
 *   3 the state is ignored when more than one token comes at once
 *   4 a commit that forgets the convolution's tail
 *   5 a wrong batch stride in a gradient */
#ifndef BASE_MUTANT_H
#define BASE_MUTANT_H

#ifndef GDN_MUTANT
#define GDN_MUTANT 0
#endif
enum { MUTANT = GDN_MUTANT };

#endif
