/* What the commands of tessera-model share. One file a command; each has its own --help. */
#ifndef TSR_TOOLS_COMMAND_PRIV_H
#define TSR_TOOLS_COMMAND_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <tsr/shm/err.h>

/* Exit codes, as of `tessera`. */
enum { COMMAND_DONE = 0, COMMAND_FAILED = 1, COMMAND_USAGE = 2 };

enum { COMMAND_INPUT_MAX = 64 << 20 }; /* bytes read from standard input */

int command_inspect(int argc, char **argv);
int command_tokenize(int argc, char **argv);
int command_template(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_doctor(int argc, char **argv);

/* "tessera COMMAND: ..." and where help is, on stderr; returns COMMAND_USAGE. */
__attribute__((format(printf, 2, 3))) int command_usage(const char *command, const char *format,
                                                        ...);

/* err's sentence on stderr, without control characters that a file put into it; returns
 * COMMAND_FAILED. */
int command_fail(const struct tsr_err *err);

/* The one argument that is left, MODEL; NULL after command_usage() where there is none or more. */
const char *command_model(const char *command, int argc, char **argv);

/* All of `in` (at most max bytes; `name` in errors): *text [*len], NUL-terminated, to be freed. */
int command_read(FILE *in, const char *name, size_t max, char **text, size_t *len,
                 struct tsr_err *err);

/* Ids as a JSON array and a newline. */
void command_write_ids(const uint32_t *ids, size_t n);

/* Text of a file for a person's terminal: control characters and what is not UTF-8 as \n, \t or
 * \xNN. */
void command_write_text(FILE *out, const char *text, size_t len);

#endif
