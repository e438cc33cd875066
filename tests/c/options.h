/* What the programs here take from their command line: -h HOST -p PORT -c CERTIFICATES -x COUNT. */
#ifndef TESTS_C_OPTIONS_H
#define TESTS_C_OPTIONS_H

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aws_iot_config.h"

static char host[256] = AWS_IOT_MQTT_HOST;
static uint16_t port = AWS_IOT_MQTT_PORT;
static int count = 3;
static char root_ca[PATH_MAX + 32];
static char certificate[PATH_MAX + 32];
static char private_key[PATH_MAX + 32];

static void path_of(char *path, size_t size, const char *folder, const char *name) {
	if (snprintf(path, size, "%s/%s", folder, name) >= (int) size) {
		fprintf(stderr, "the path of %s is too long\n", name);
		exit(2);
	}
}

static void read_options(int argc, char **argv) {
	const char *folder = "certs";
	int option;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((option = getopt(argc, argv, "h:p:c:x:")) != -1) {
		switch (option) {
			case 'h':
				snprintf(host, sizeof(host), "%s", optarg);
				break;
			case 'p':
				port = (uint16_t) atoi(optarg);
				break;
			case 'c':
				folder = optarg;
				break;
			case 'x':
				count = atoi(optarg);
				break;
			default:
				fprintf(stderr, "usage: %s -h HOST -p PORT -c CERTIFICATES -x COUNT\n", argv[0]);
				exit(2);
		}
	}
	path_of(root_ca, sizeof(root_ca), folder, AWS_IOT_ROOT_CA_FILENAME);
	path_of(certificate, sizeof(certificate), folder, AWS_IOT_CERTIFICATE_FILENAME);
	path_of(private_key, sizeof(private_key), folder, AWS_IOT_PRIVATE_KEY_FILENAME);
}

#endif
