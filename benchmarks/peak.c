/* 8-bit multiply-adds at the processor's peak rate: twelve sums, each of which depends only on itself.
   Each has a name of its own, because the compiler would keep an array of them in memory. */

#include <immintrin.h>
#include <time.h>

#ifdef __AVX512VNNI__
typedef __m512i vector;
#define ADD(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define SET(value) _mm512_set1_epi8(value)
#define REGISTER "+v"
#else
typedef __m256i vector;
#define ADD(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
#define SET(value) _mm256_set1_epi8(value)
#define REGISTER "+x"
#endif

#define SUMS 12
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
#define BEGIN(i) vector sum##i = SET(0);
/* The empty statement keeps the compiler from removing the sum. */
#define STEP(i) sum##i = ADD(sum##i, a, b); __asm__ volatile("" : REGISTER(sum##i));

/* Multiply-adds of one repetition. */
int peak_width(void) { return SUMS * (int)sizeof(vector); }

/* Seconds that the repetitions take. */
double peak_seconds(long repetitions) {
    vector a = SET(3), b = SET(5);
    struct timespec start, end;
    EACH(BEGIN)
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long n = 0; n < repetitions; n++) { EACH(STEP) }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
}
