#include <string.h>

#include "utf8_priv.h"

int tsr_utf8_step(const uint8_t *p, size_t n)
{
    uint8_t b = p[0];
    if (b < 0x80)
        return 1;
    unsigned need;
    uint8_t low = 0x80, high = 0xBF; /* of the second byte: no overlong forms, no surrogates */
    if (b >= 0xC2 && b <= 0xDF) {
        need = 2;
    } else if (b >= 0xE0 && b <= 0xEF) {
        need = 3;
        low = b == 0xE0 ? 0xA0 : 0x80;
        high = b == 0xED ? 0x9F : 0xBF;
    } else if (b >= 0xF0 && b <= 0xF4) {
        need = 4;
        low = b == 0xF0 ? 0x90 : 0x80;
        high = b == 0xF4 ? 0x8F : 0xBF;
    } else {
        return -1;
    }
    for (unsigned i = 1; i < need; i++) {
        if (i == n)
            return TSR_UTF8_UNFINISHED;
        if (p[i] < low || p[i] > high)
            return -(int)i;
        low = 0x80;
        high = 0xBF;
    }
    return (int)need;
}

size_t tsr_utf8_valid(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        while (i + 8 <= n) {
            memcpy(&word, p + i, 8);
            if (word & 0x8080808080808080u)
                break;
            i += 8;
        }
        if (i == n)
            break;
        int step = tsr_utf8_step(p + i, n - i);
        if (step <= 0)
            break;
        i += (size_t)step;
    }
    return i;
}

unsigned tsr_utf8_put(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}
