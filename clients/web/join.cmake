# Joins index.html with the scripts and styles that it names:
#     cmake -D SOURCE=clients/web -D OUT=FOLDER -P join.cmake
# In OUT: page.html, policy.txt (the value of Content-Security-Policy) and page.c, which holds both (tsr/web/page.h).
cmake_minimum_required(VERSION 3.25)

# base64(OUT HEX): what base64 makes of the bytes that HEX stands for.
function(base64 out hex)
    set(digits "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    set(text "")
    string(LENGTH "${hex}" left)
    while(left GREATER 0)
        string(SUBSTRING "${hex}000000" 0 6 group)
        math(EXPR bits "0x${group}")
        foreach(shift 18 12 6 0)
            math(EXPR digit "(${bits} >> ${shift}) & 63")
            string(SUBSTRING ${digits} ${digit} 1 digit)
            string(APPEND text ${digit})
        endforeach()
        math(EXPR left "${left} - 6")
        if(left GREATER 0)
            string(SUBSTRING "${hex}" 6 -1 hex)
        endif()
    endwhile()
    math(EXPR filled "-${left} / 2")
    string(LENGTH "${text}" length)
    math(EXPR length "${length} - ${filled}")
    string(SUBSTRING "${text}" 0 ${length} text)
    string(REPEAT "=" ${filled} padding)
    set(${out} "${text}${padding}" PARENT_SCOPE)
endfunction()

# join(REGEX ELEMENT): every tag in `page` that matches REGEX becomes ELEMENT with the text of the file that it names.
# ELEMENT_hashes holds what a policy calls them.
function(join regex element)
    set(hashes "")
    while(page MATCHES "${regex}")
        set(tag "${CMAKE_MATCH_0}")
        set(name "${CMAKE_MATCH_1}")
        file(READ "${SOURCE}/${name}" text)
        string(TOLOWER "${text}" lower)
        if(lower MATCHES "</${element}|<!--")
            message(FATAL_ERROR "${name}: '${CMAKE_MATCH_0}' would end the <${element}> that the file becomes; write it otherwise")
        endif()
        string(SHA256 hash "${text}")
        base64(hash "${hash}")
        string(APPEND hashes " 'sha256-${hash}'")
        string(REPLACE "${tag}" "<${element}>${text}</${element}>" page "${page}")
    endwhile()
    set(page "${page}" PARENT_SCOPE)
    set(${element}_hashes "${hashes}" PARENT_SCOPE)
endfunction()

file(READ "${SOURCE}/index.html" page)
join("<link rel=\"stylesheet\" href=\"([a-z_]+\\.css)\">" style)
join("<script src=\"([a-z_]+\\.js)\"></script>" script)
string(CONCAT policy "default-src 'none'; script-src${script_hashes}; style-src${style_hashes}; connect-src 'self'; img-src data:; "
                     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")

file(WRITE "${OUT}/page.html" "${page}")
file(WRITE "${OUT}/policy.txt" "${policy}")
file(READ "${OUT}/page.html" bytes HEX)
string(LENGTH "${bytes}" size)
math(EXPR size "${size} / 2")
string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE "${OUT}/page.c" "/* Made by clients/web/join.cmake. */
#include <tsr/web/page.h>

const unsigned char tsr_web_page[] = {
${bytes}
};
const size_t tsr_web_page_bytes = ${size};
const char tsr_web_policy[] = \"${policy}\";
")
