#include "core/kernels/tile.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
using namespace ballast;
template<bool TR> void run(int64_t m,int64_t n,int64_t k){
  float*a=(float*)aligned_alloc(64,1<<18),*b=(float*)aligned_alloc(64,1<<18),*c=(float*)aligned_alloc(64,1<<18);
  for(int i=0;i<65536;i++)a[i]=b[i]=c[i]=0.001f;
  double best=1e9; for(int r=0;r<20;r++){auto t=std::chrono::steady_clock::now(); for(int i=0;i<200;i++) tile::multiply<TR>(m,n,k,a,TR?m:k,b,n,c,n,false);
  best=std::min(best,std::chrono::duration<double>(std::chrono::steady_clock::now()-t).count());}
  printf("%d %ld %ld %ld: %.1f GF\n",TR,m,n,k,200*2.0*m*n*k/best*1e-9);
}
int main(){run<false>(64,64,64);run<true>(64,64,64);run<false>(60,64,64);run<false>(64,128,64);run<false>(64,64,128);run<true>(66,64,64);}
