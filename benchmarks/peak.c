/* So many 8-bit multiply-adds, as fast as the processor does them: twelve sums that wait for nothing but
   themselves, in registers. Gives the seconds that they took. */

#include <immintrin.h>
#include <time.h>

#define SUMS 12

#ifdef __AVX512VNNI__
typedef __m512i vector;
#define ADD(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#define SET(value) _mm512_set1_epi8(value)
#define KEEP(sum) __asm__ volatile("" : "+v"(sum))
#else
typedef __m256i vector;
#define ADD(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
#define SET(value) _mm256_set1_epi8(value)
#define KEEP(sum) __asm__ volatile("" : "+x"(sum))
#endif

/* Multiply-adds of one repetition. */
int peak_width(void) { return SUMS * (int)sizeof(vector); }

double peak_seconds(long repetitions) {
    vector sums[SUMS], a = SET(3), b = SET(5);
    struct timespec start, end;
    for (int i = 0; i < SUMS; i++) sums[i] = SET(0);
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (long n = 0; n < repetitions; n++) {
#pragma GCC unroll 12
        for (int i = 0; i < SUMS; i++) {
            sums[i] = ADD(sums[i], a, b);
            KEEP(sums[i]);
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
}
