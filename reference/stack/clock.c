/* What libfaketime 0.9.10 leaves out: the waiting of C11 threads, which librdkafka uses. It counts to a moment of the wall
 * clock, so whoever is told another time of day has to be waited for by the same clock: through POSIX, which is intercepted.
 * The results are those of <threads.h>: success, timed out, error. No header is needed, and so no development package. */

int pthread_cond_timedwait(void *condition, void *mutex, const void *until);

int cnd_timedwait(void *condition, void *mutex, const void *until)
{
    int said = pthread_cond_timedwait(condition, mutex, until);
    return said == 0 ? 0 : said == 110 ? 4 : 2;
}
