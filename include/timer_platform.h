/* A timer of Linux. */
#ifndef IOTEDGE_TIMER_PLATFORM_H
#define IOTEDGE_TIMER_PLATFORM_H

#include <sys/time.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Runs out at this time of day. */
struct Timer {
	struct timeval end_time;
};

#ifdef __cplusplus
}
#endif

#include "timer_interface.h"

#endif
