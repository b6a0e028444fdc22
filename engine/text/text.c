/*
 * Names of the text rooms' errors.
 *
 * The names go into logs and error bodies, so they are part of what users
 * see: never renamed, only added to.
 */
#include "engine/text/text.h"


const char *
ax_text_error_name(int error)
{
    switch (error) {
    case AX_TEXT_OK:
        return "ok";
    case AX_TEXT_NO_MEMORY:
        return "no_memory";
    case AX_TEXT_UNSUPPORTED:
        return "unsupported";
    case AX_TEXT_BAD_VOCAB:
        return "bad_vocab";
    case AX_TEXT_TOO_LONG:
        return "too_long";
    case AX_TEXT_BAD_SYNTAX:
        return "bad_syntax";
    case AX_TEXT_RAISED:
        return "raised";
    case AX_TEXT_BAD_OPERATION:
        return "bad_operation";
    case AX_TEXT_LIMIT_STEPS:
        return "limit_steps";
    case AX_TEXT_LIMIT_DEPTH:
        return "limit_depth";
    case AX_TEXT_LIMIT_OUTPUT:
        return "limit_output";
    case AX_TEXT_LIMIT_MEMORY:
        return "limit_memory";
    default:
        return "unknown";
    }
}
