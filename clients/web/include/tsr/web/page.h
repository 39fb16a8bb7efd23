/* The page to look at, as one piece: what lies in clients/web/, joined when this was built. */
#ifndef TSR_WEB_PAGE_H
#define TSR_WEB_PAGE_H

#include <stddef.h>

extern const unsigned char tsr_web_page[]; /* text/html; charset=utf-8; not NUL-terminated */
extern const size_t tsr_web_page_bytes;

/* The value of Content-Security-Policy that goes with it: nothing but the page's own scripts and
 * styles, by their hashes, and connections to where it came from. */
extern const char tsr_web_policy[];

#endif
