/*
 * Mutexes for applications compiled with _ENABLE_THREAD_SUPPORT_. The library needs none of them:
 * its clients may be used by several threads in any case, one operation at a time.
 */
#ifndef IOTEDGE_THREADS_INTERFACE_H
#define IOTEDGE_THREADS_INTERFACE_H

#ifdef _ENABLE_THREAD_SUPPORT_

#include <pthread.h>
#include <stddef.h>

#include "aws_iot_error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct _IoT_Mutex_t IoT_Mutex_t;

struct _IoT_Mutex_t {
	pthread_mutex_t lock;
};

static inline IoT_Error_t aws_iot_thread_mutex_init(IoT_Mutex_t *mutex) {
	return pthread_mutex_init(&mutex->lock, NULL) == 0 ? SUCCESS : MUTEX_INIT_ERROR;
}

static inline IoT_Error_t aws_iot_thread_mutex_lock(IoT_Mutex_t *mutex) {
	return pthread_mutex_lock(&mutex->lock) == 0 ? SUCCESS : MUTEX_LOCK_ERROR;
}

static inline IoT_Error_t aws_iot_thread_mutex_trylock(IoT_Mutex_t *mutex) {
	return pthread_mutex_trylock(&mutex->lock) == 0 ? SUCCESS : MUTEX_LOCK_ERROR;
}

static inline IoT_Error_t aws_iot_thread_mutex_unlock(IoT_Mutex_t *mutex) {
	return pthread_mutex_unlock(&mutex->lock) == 0 ? SUCCESS : MUTEX_UNLOCK_ERROR;
}

static inline IoT_Error_t aws_iot_thread_mutex_destroy(IoT_Mutex_t *mutex) {
	return pthread_mutex_destroy(&mutex->lock) == 0 ? SUCCESS : MUTEX_DESTROY_ERROR;
}

#ifdef __cplusplus
}
#endif

#endif

#endif
