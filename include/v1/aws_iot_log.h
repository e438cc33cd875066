/*
 * Log lines on standard output. Each level is there when the application is compiled with its
 * flag: IOT_DEBUG, IOT_INFO, IOT_WARN, IOT_ERROR. The library itself prints nothing.
 */
#ifndef IOTEDGE_V1_AWS_IOT_LOG_H
#define IOTEDGE_V1_AWS_IOT_LOG_H

#include <stdio.h>
#include <stdlib.h>

/* One line: level, function, line, text. */
#define IOTEDGE_LOG_LINE(level, ...)                  \
	{                                                 \
		printf(level "%s L#%d ", __func__, __LINE__); \
		printf(__VA_ARGS__);                          \
		printf("\n");                                 \
	}

#ifdef IOT_DEBUG
#define DEBUG(...) IOTEDGE_LOG_LINE("DEBUG:   ", __VA_ARGS__)
#else
#define DEBUG(...)
#endif

#ifdef IOT_INFO
#define INFO(...)            \
	{                        \
		printf(__VA_ARGS__); \
		printf("\n");        \
	}
#else
#define INFO(...)
#endif

#ifdef IOT_WARN
#define WARN(...) IOTEDGE_LOG_LINE("WARN:  ", __VA_ARGS__)
#else
#define WARN(...)
#endif

#ifdef IOT_ERROR
#define ERROR(...) IOTEDGE_LOG_LINE("ERROR: ", __VA_ARGS__)
#else
#define ERROR(...)
#endif

#endif
