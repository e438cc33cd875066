/*
 * Timers that run down. They are of the header only: a library that exported names as plain as
 * these would take them away from applications.
 */
#ifndef IOTEDGE_TIMER_INTERFACE_H
#define IOTEDGE_TIMER_INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/select.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Timer Timer;

#ifdef __cplusplus
}
#endif

#include "timer_platform.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A timer that has run out already. */
static inline void init_timer(Timer *timer) {
	timer->end_time.tv_sec = 0;
	timer->end_time.tv_usec = 0;
}

/* What is left in microseconds; not above 0 when it has run out. */
static inline int64_t iotedge_timer_left_us(const Timer *timer) {
	struct timeval now;
	gettimeofday(&now, NULL);
	return ((int64_t) timer->end_time.tv_sec - (int64_t) now.tv_sec) * 1000000
		   + ((int64_t) timer->end_time.tv_usec - (int64_t) now.tv_usec);
}

/* Whether it has run out. */
static inline bool has_timer_expired(Timer *timer) {
	return iotedge_timer_left_us(timer) <= 0;
}

/* Runs out in so many milliseconds. */
static inline void countdown_ms(Timer *timer, uint32_t milliseconds) {
	struct timeval now;
	gettimeofday(&now, NULL);
	now.tv_sec += (time_t) (milliseconds / 1000);
	now.tv_usec += (suseconds_t) ((milliseconds % 1000) * 1000);
	if (now.tv_usec >= 1000000) {
		now.tv_sec += 1;
		now.tv_usec -= 1000000;
	}
	timer->end_time = now;
}

/* Runs out in so many seconds. */
static inline void countdown_sec(Timer *timer, uint32_t seconds) {
	struct timeval now;
	gettimeofday(&now, NULL);
	now.tv_sec += (time_t) seconds;
	timer->end_time = now;
}

/* Milliseconds left; 0 when it has run out. */
static inline uint32_t left_ms(Timer *timer) {
	int64_t left = iotedge_timer_left_us(timer);
	return left <= 0 ? 0 : (uint32_t) (left / 1000);
}

/*
 * Sleeps. Weak, and not inline: other libraries for small boards declare a function of this name
 * too, and theirs may then be used.
 */
void delay(unsigned milliseconds);
#if defined(__GNUC__)
__attribute__((weak))
#endif
void delay(unsigned milliseconds) {
	/* select: strict C declares it too, once its header is asked for. */
	struct timeval time;
	time.tv_sec = (time_t) (milliseconds / 1000);
	time.tv_usec = (suseconds_t) (milliseconds % 1000) * 1000;
	select(0, NULL, NULL, NULL, &time);
}

#ifdef __cplusplus
}
#endif

#endif
