/* Sessions. Their numbers are the module's own, because each token has its own SoftHSM. TEST ONLY: see ../README.md. */
#include <stdlib.h>

#include "internal.h"

static Session *sessions;
static CK_SESSION_HANDLE last;

Session *session_of(CK_SESSION_HANDLE handle)
{
    Session *session = sessions;
    while (session != NULL && session->handle != handle)
        session = session->next;
    return session;
}

Session *session_new(Token *token, CK_SESSION_HANDLE real)
{
    Session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return NULL;
    session->handle = ++last; /* never given twice: an old number stays invalid */
    session->token = token;
    session->real = real;
    session->next = sessions;
    sessions = session;
    return session;
}

void find_end(Session *session)
{
    free(session->found);
    session->found = NULL;
    session->found_count = session->found_at = 0;
    session->finding = false;
}

void sign_end(Session *session)
{
    EVP_PKEY_free(session->key);
    free(session->data);
    session->key = NULL;
    session->data = NULL;
    session->data_size = 0;
    session->signing = NULL;
}

void session_free(Session *session)
{
    Session **link = &sessions;
    while (*link != session)
        link = &(*link)->next;
    *link = session->next;
    find_end(session);
    sign_end(session);
    free(session);
}

void sessions_kill(const Token *token)
{
    for (Session *session = sessions; session != NULL; session = session->next) {
        if (session->token != token)
            continue;
        session->dead = true;
        find_end(session);
        sign_end(session);
    }
}

void sessions_free(const Token *token)
{
    for (Session *session = sessions, *next; session != NULL; session = next) {
        next = session->next;
        if (session->token == token)
            session_free(session);
    }
}

size_t sessions_count(const Token *token)
{
    size_t count = 0;
    for (Session *session = sessions; session != NULL; session = session->next)
        count += session->token == token && !session->dead;
    return count;
}
