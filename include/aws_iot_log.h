/*
 * Log lines on standard output. Each level is there when the application is compiled with its
 * flag: ENABLE_IOT_DEBUG, ENABLE_IOT_INFO, ENABLE_IOT_WARN, ENABLE_IOT_ERROR, ENABLE_IOT_TRACE.
 * The library itself prints nothing.
 */
#ifndef IOTEDGE_AWS_IOT_LOG_H
#define IOTEDGE_AWS_IOT_LOG_H

#include <stdio.h>
#include <stdlib.h>

/* One line: level, function, line, text. */
#define IOTEDGE_LOG_LINE(level, ...)                          \
	{                                                         \
		printf(level "%s L#%d ", __func__, __LINE__);         \
		printf(__VA_ARGS__);                                  \
		printf("\n");                                         \
	}

#ifdef ENABLE_IOT_DEBUG
#define IOT_DEBUG(...) IOTEDGE_LOG_LINE("DEBUG:   ", __VA_ARGS__)
#else
#define IOT_DEBUG(...)
#endif

#ifdef ENABLE_IOT_INFO
#define IOT_INFO(...)        \
	{                        \
		printf(__VA_ARGS__); \
		printf("\n");        \
	}
#else
#define IOT_INFO(...)
#endif

#ifdef ENABLE_IOT_WARN
#define IOT_WARN(...) IOTEDGE_LOG_LINE("WARN:  ", __VA_ARGS__)
#else
#define IOT_WARN(...)
#endif

#ifdef ENABLE_IOT_ERROR
#define IOT_ERROR(...) IOTEDGE_LOG_LINE("ERROR: ", __VA_ARGS__)
#else
#define IOT_ERROR(...)
#endif

#ifdef ENABLE_IOT_TRACE
#define FUNC_ENTRY                              \
	{                                           \
		printf("FUNC_ENTRY:   %s L#%d\n", __func__, __LINE__); \
	}
#define FUNC_EXIT                               \
	{                                           \
		printf("FUNC_EXIT:   %s L#%d\n", __func__, __LINE__); \
	}
#define FUNC_EXIT_RC(x)                         \
	{                                           \
		printf("FUNC_EXIT:   %s L#%d\n", __func__, __LINE__); \
		return x;                               \
	}
#else
#define FUNC_ENTRY
#define FUNC_EXIT
#define FUNC_EXIT_RC(x) \
	{                   \
		return x;       \
	}
#endif

#endif
