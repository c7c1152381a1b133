import { Emdb } from "../src/index.ts";
import { Data } from "./lib/data.ts";
import { openStore } from "./lib/peers-of.ts";
import { Folder } from "./lib/folder.ts";
import { load } from "./lib/load.ts";
const N=+(process.argv[2]??1000000); const data=new Data({seed:3});
using folder=new Folder();
const ordered = { durability: "none", isOrdered: true } as const;
const subjects=(process.argv[3]??"emdb,lmdb,sqlite").split(",");
const stores=[] as any[];
for(const s of subjects){const st=await openStore(s,folder,"r10"+s,ordered);await load(st,data,N);stores.push(st);}
const keys=data.shuffledKeys(N,20000);
const best:Record<string,number>={},med:Record<string,number[]>={};
for(let r=0;r<40;r++)for(let s=0;s<stores.length;s++){const st=stores[s];
 for(const [lim,cnt] of [[10,500],[1000,10]] as const){const t0=performance.now();for(let i=0;i<cnt;i++)st.range(keys[(r*500+i)%20000]!,lim);const us=(performance.now()-t0)*1e3/cnt;
 const k=subjects[s]+" "+lim;best[k]=Math.min(best[k]??1e9,us);(med[k]??=[]).push(us);}}
for(let r=0;r<3;r++)for(let s=0;s<stores.length;s++){const t0=performance.now();const n=st_range(stores[s]);const us=(performance.now()-t0)*1e6/n;const k=subjects[s]+" scan ns";best[k]=Math.min(best[k]??1e9,us);(med[k]??=[]).push(us);}
function st_range(s:any){return s.range(new Uint8Array(1),N+1)}
for(const k in best)console.log(k.padEnd(18),"best",best[k]!.toFixed(2),"median",med[k]!.sort((a,b)=>a-b)[med[k]!.length>>1]!.toFixed(2));
for(const s of stores)await s.close();
