/* A program that embeds CPython: linked to its library, or opening it when it runs.
 *
 * Usage: embed LIBRARY|linked SCRIPT. Prints `begun` and waits for a line, initialises the
 * interpreter, and runs the script; then calls its function called_by_c() from a thread of its
 * own, and say(). */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *library;

static void *function(const char *name)
{
	void *found = dlsym(library, name);
	if (!found) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return found;
}

static void run(const char *text)
{
	int (*simple)(const char *) = (int (*)(const char *))function("PyRun_SimpleString");
	if (simple(text))
		exit(1);
}

static void *thread(void *unused)
{
	int (*ensure)(void) = (int (*)(void))function("PyGILState_Ensure");
	void (*release)(int) = (void (*)(int))function("PyGILState_Release");
	int state = ensure();
	run("called_by_c()");
	release(state);
	return unused;
}

int main(int argc, char **argv)
{
	char text[4096], line[16];
	pthread_t own;
	void *(*save)(void);
	void (*restore)(void *);
	void *state;

	if (argc != 3)
		return 2;
	puts("begun");
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		return 1;
	library = strcmp(argv[1], "linked") ? dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL) : dlopen(NULL, RTLD_NOW);
	if (!library) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	((void (*)(void))function("Py_Initialize"))();
	snprintf(text, sizeof text, "path = '%s'; exec(compile(open(path).read(), path, 'exec'))", argv[2]);
	run(text);
	save = (void *(*)(void))function("PyEval_SaveThread");
	restore = (void (*)(void *))function("PyEval_RestoreThread");
	state = save();
	if (pthread_create(&own, NULL, thread, NULL) || pthread_join(own, NULL))
		return 1;
	restore(state);
	run("say()");
	((int (*)(void))function("Py_FinalizeEx"))();
	return 0;
}
