/* Tables of methods by type. */
#ifndef TSR_JINJA_METHODS_PRIV_H
#define TSR_JINJA_METHODS_PRIV_H

#include "run_priv.h"

extern const struct tsr_jbuiltin tsr_j_str_methods[];
extern const size_t tsr_j_n_str_methods;

#endif
