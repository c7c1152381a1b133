// bcryptprimitives.dll for a Wine that has none: Bun for Windows imports one function of it.
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG bytes); // RtlGenRandom, in advapi32

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T bytes) {
  while (bytes > 0) {
    ULONG step = bytes > 0x40000000 ? 0x40000000 : (ULONG)bytes;
    if (!SystemFunction036(data, step)) return FALSE;
    data += step;
    bytes -= step;
  }
  return TRUE;
}
