# How the soft libraries are compiled. Included by their Makefiles.
CFLAGS ?= -O1 -g
VALGRIND ?= valgrind -q --leak-check=full --show-leak-kinds=definite,indirect,possible --error-exitcode=9
COMMON := $(dir $(lastword $(MAKEFILE_LIST)))
SOURCES = $(sort $(wildcard *.c)) $(sort $(wildcard $(COMMON)*.c))
HEADERS = $(wildcard *.h) $(wildcard $(COMMON)*.h)
WARNINGS = -std=gnu11 -Wall -Wextra -pthread
FLAGS = $(WARNINGS) -fPIC -shared -fvisibility=hidden -I. -I$(COMMON)
