/* What the engine says of itself and of its model: the plan before loading, progress, HELLO, the
 * plate of status. */
#ifndef TSR_SERVE_DESCRIBE_H
#define TSR_SERVE_DESCRIBE_H

#include <stdio.h>

#include <tsr/exec/exec.h>
#include <tsr/model/model.h>
#include <tsr/serve/frontend.h>
#include <tsr/serve/options.h>
#include <tsr/shm/wire.h>
#include <tsr/text/template.h>

/* "92.1 MB", "1.3 GB": decimal, as files are measured. */
void tsr_describe_bytes(char *out, size_t size, uint64_t bytes);

/* The format that most of the model's weights have, or will have by the options: "Q4_1", "bf16". */
const char *tsr_describe_weights(const struct tsr_model *model, enum tsr_weights weights);

/* A few lines: the model, what it needs and what there is, workers, KV. */
void tsr_describe_plan(FILE *out, const struct tsr_model *model,
                       const struct tsr_serve_options *options, const struct tsr_exec_plan *plan);

/* Draws done (0 .. 1) on a terminal as a bar, elsewhere as a line every ten percent. *shown is its
 * memory, 0 first. */
void tsr_describe_progress(FILE *out, double done, uint64_t bytes, int *shown);

/* tmpl: the chat template, NULL: there is none. */
void tsr_describe_hello(struct tsr_wire_hello *hello, const struct tsr_model *model,
                        const struct tsr_serve_options *options, const struct tsr_exec *exec,
                        const struct tsr_frontend_options *frontend,
                        const struct tsr_template *tmpl);

/* Everything but started_ns. */
void tsr_describe_plate(struct tsr_status_plate *plate, const struct tsr_model *model,
                        const struct tsr_serve_options *options, const struct tsr_exec *exec,
                        uint64_t load_ns);

#endif
