/* Errors that carry a sentence for a person.
 *
 * Control-path functions return 0 or a negative errno and take an optional `struct tsr_err *`.
 * Where they fail, the sentence says what was wrong, with names and numbers, and what to do about
 * it. */
#ifndef TSR_SHM_ERR_H
#define TSR_SHM_ERR_H

enum { TSR_ERR_TEXT_MAX = 512 };

struct tsr_err {
    int code;                    /* negative errno, 0 when nothing failed */
    char text[TSR_ERR_TEXT_MAX]; /* one sentence, NUL-terminated, truncated if longer */
};

/* Writes the sentence into err (which may be NULL) and returns code, so that a failing function can
 * end with `return tsr_err_set(err, -EINVAL, "...", ...)`. code must be negative. */
__attribute__((format(printf, 3, 4))) int tsr_err_set(struct tsr_err *err, int code,
                                                      const char *format, ...);

/* Puts "prefix: " in front of the sentence that err holds (a file's name before a parser's
 * complaint). Returns err->code; -EIO where err is NULL. */
__attribute__((format(printf, 2, 3))) int tsr_err_prefix(struct tsr_err *err, const char *format,
                                                         ...);

#endif
